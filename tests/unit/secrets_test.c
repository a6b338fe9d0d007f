#include "node/secrets.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char root[64];
static char dir[128];
static char file[192];
static char why[400];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/peal-secrets-XXXXXX");
    if (mkdtemp(root) == NULL) return -1;
    snprintf(dir, sizeof dir, "%s/data", root);
    snprintf(file, sizeof file, "%s/api.key", dir);
    why[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file);
    rmdir(dir);
    return rmdir(root); /* fails when anything else was left behind */
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void write_file(const char *text, mode_t mode)
{
    mkdir(dir, 0700);
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void secret_missing_is_made_once(void **state)
{
    (void)state;
    struct peal_buf first = {0};
    struct peal_buf second = {0};
    assert_int_equal(peal_secret_get(dir, "api.key", &first, why, sizeof why), PEAL_OK);
    assert_int_equal(first.size, PEAL_SECRET_SIZE);
    for (size_t i = 0; i < first.size; i++)
        assert_non_null(memchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                               first.at[i], 64));
    assert_int_equal(mode_of(dir), 0700);
    assert_int_equal(mode_of(file), 0600);

    assert_int_equal(peal_secret_get(dir, "api.key", &second, why, sizeof why), PEAL_OK);
    assert_true(peal_span_equal(peal_buf_span(&first), peal_buf_span(&second)));
    peal_secret_wipe(&first);
    peal_secret_wipe(&second);
}

static void secret_of_another_name_differs(void **state)
{
    (void)state;
    struct peal_buf first = {0};
    struct peal_buf second = {0};
    assert_int_equal(peal_secret_get(dir, "api.key", &first, why, sizeof why), PEAL_OK);
    assert_int_equal(peal_secret_get(dir, "token.secret", &second, why, sizeof why), PEAL_OK);
    assert_false(peal_span_equal(peal_buf_span(&first), peal_buf_span(&second)));
    peal_secret_wipe(&first);
    peal_secret_wipe(&second);
    char other[192];
    snprintf(other, sizeof other, "%s/token.secret", dir);
    assert_int_equal(unlink(other), 0);
}

static void secret_of_people_loses_its_line_end(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    write_file("0123456789-0123456789-0123456789-abc\r\n", 0400);
    assert_int_equal(peal_secret_get(dir, "api.key", &out, why, sizeof why), PEAL_OK);
    assert_true(peal_span_is(peal_buf_span(&out), "0123456789-0123456789-0123456789-abc"));
    peal_secret_wipe(&out);
}

static void secret_that_others_can_read_is_refused(void **state)
{
    (void)state;
    static const mode_t modes[] = {0640, 0604, 0620, 0601};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct peal_buf out = {0};
        write_file("0123456789-0123456789-0123456789-abc\n", modes[i]);
        assert_int_equal(peal_secret_get(dir, "api.key", &out, why, sizeof why), PEAL_ECONFIG);
        assert_int_equal(out.size, 0);
        assert_non_null(strstr(why, file));
        assert_null(strstr(why, "0123456789-0"));
        peal_secret_wipe(&out);
    }
}

static void secret_too_short_is_refused(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    write_file("", 0600);
    assert_int_equal(peal_secret_get(dir, "api.key", &out, why, sizeof why), PEAL_ECONFIG);
    write_file("short\n", 0600);
    assert_int_equal(peal_secret_get(dir, "api.key", &out, why, sizeof why), PEAL_ECONFIG);
    assert_null(strstr(why, "short\n"));
    assert_int_equal(out.size, 0);
    peal_secret_wipe(&out);
}

static void secret_behind_a_link_is_refused(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    mkdir(dir, 0700);
    assert_int_equal(symlink("/etc/hostname", file), 0);
    assert_int_equal(peal_secret_get(dir, "api.key", &out, why, sizeof why), PEAL_EIO);
    assert_int_equal(out.size, 0);
}

static void secret_in_a_folder_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    struct peal_buf out = {0};
    char below[192];
    snprintf(below, sizeof below, "%s/not/there", root);
    assert_int_equal(peal_secret_get(below, "api.key", &out, why, sizeof why), PEAL_EIO);
    assert_non_null(strstr(why, below));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(secret_missing_is_made_once),
        TEST(secret_of_another_name_differs),
        TEST(secret_of_people_loses_its_line_end),
        TEST(secret_that_others_can_read_is_refused),
        TEST(secret_too_short_is_refused),
        TEST(secret_behind_a_link_is_refused),
        TEST(secret_in_a_folder_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests_name("secrets", tests, NULL, NULL);
}
