/* tests/fuzz/corpus_main.c: runs a fuzz target over the files of its corpus, as a plain test.
 *
 * usage: NAME_corpus DIRECTORY. Each file goes to LLVMFuzzerTestOneInput in memory of exactly its
 * size, so that the address sanitizer sees a read past its end. Fails when there is no file: an
 * empty corpus would be a test that cannot fail. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_file(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void fail(const char *path)
{
    perror(path);
    exit(1);
}

static void run_file(const char *directory, const char *name)
{
    char path[4096];
    struct stat info;
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) fail(name);

    FILE *file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &info) != 0) fail(path);
    size_t size = (size_t)info.st_size;
    uint8_t *data = malloc(size);
    if (data == NULL && size > 0) fail(path);
    if (size > 0 && fread(data, 1, size, file) != size) fail(path);
    fclose(file);

    printf("%s: %zu bytes\n", name, size);
    fflush(stdout); /* a crash must not take the name of its file with it */
    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

int main(int argc, char **argv)
{
    struct dirent **entries;
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 64;
    }

    int count = scandir(argv[1], &entries, is_file, alphasort);
    if (count < 0) fail(argv[1]);
    for (int i = 0; i < count; i++) {
        run_file(argv[1], entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    printf("%d files\n", count);
    return count > 0 ? 0 : 1;
}
