/* Whatever reads a store does so in a child process: LMDB trusts its file, and a damaged one can
 * end the process that reads it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/args.h"
#include "cli/exit.h"
#include "cli/verbs.h"
#include "storage/backup.h"
#include "storage/dump.h"
#include "storage/stats.h"
#include "storage/verify.h"

enum { PROBLEMS_SHOWN = 100, WHY_ROOM = 1024 };

static const char usage[] =
    "usage: peal store stats DIR          what there is, as one JSON object\n"
    "       peal store verify DIR         looks at every record; exit code 65 when one is wrong\n"
    "       peal store dump DIR           prints everything as JSON lines\n"
    "       peal store load DIR           makes a store of such lines in an empty folder\n"
    "       peal store backup DIR TO      copies it to the empty or new folder TO\n"
    "       peal store compact DIR        gives empty pages back to the disk\n"
    "\n"
    "DIR is the folder of a router (`data` in its configuration). stats, verify, dump and backup\n"
    "work beside a router that runs; load and compact need it stopped. dump prints on stdout, "
    "load\n"
    "reads from stdin. docs/STORE.md says more.\n";

static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};

static int fail_store(enum peal_err err, const char *why)
{
    int code = PEAL_EXIT_UNAVAILABLE;
    if (err == PEAL_ELOCKED) code = PEAL_EXIT_LOCKED;
    if (err == PEAL_ENOT_FOUND || err == PEAL_EINUSE || err == PEAL_EINVAL) code = PEAL_EXIT_CONFIG;
    if (err == PEAL_ECORRUPT || err == PEAL_EBAD_JSON || err == PEAL_EBAD_FIELD ||
        err == PEAL_EBAD_MESSAGE)
        code = PEAL_EXIT_DAMAGED;
    return peal_fail(code, err == PEAL_EIO ? "io_error" : peal_err_word(err), "%s", why);
}

/* ---- verbs -------------------------------------------------------------------------------- */

static int fail_reading(enum peal_err err, const char *dir)
{
    char why[WHY_ROOM];
    snprintf(why, sizeof why, "cannot read the store in %s to its end", dir);
    return fail_store(err, why);
}

static void file_add(struct peal_buf *out, const char *name, const struct peal_stats_file *file)
{
    peal_buf_add_format(out, ",\"%s_file_bytes\":%llu,\"%s_used_bytes\":%llu", name,
                        (unsigned long long)file->bytes_file, name,
                        (unsigned long long)file->bytes_used);
    peal_buf_add_format(out, ",\"%s_free_bytes\":%llu", name, (unsigned long long)file->bytes_free);
}

static int stats_print(const struct peal_stats *stats)
{
    struct peal_buf out = {0};
    const struct {
        const char *name;
        uint64_t number;
    } numbers[] = {
        {"heads", stats->heads},
        {"heads_damaged", stats->heads_damaged},
        {"messages", stats->messages},
        {"unread", stats->unread},
        {"message_bytes", stats->bytes},
        {"oldest_ms", stats->oldest_ms},
        {"newest_ms", stats->newest_ms},
        {"log_records", stats->log_records},
        {"log_waiting", stats->log_waiting},
        {"log_damaged", stats->log_damaged},
    };
    peal_buf_add_format(&out, "{\"generation\":%llu", (unsigned long long)stats->generation);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        peal_buf_add_format(&out, ",\"%s\":%llu", numbers[i].name,
                            (unsigned long long)numbers[i].number);
    file_add(&out, "log", &stats->log);
    file_add(&out, "inbox", &stats->inbox);
    peal_buf_add_text(&out, "}\n");
    int code =
        out.failed ? fail_store(PEAL_ENOMEM, "out of memory") : peal_print(peal_buf_span(&out));
    peal_buf_fini(&out);
    return code;
}

static int stats_run(struct peal_survey *survey, const char *dir)
{
    struct peal_stats stats;
    enum peal_err err = peal_stats_read(survey, &stats);
    return err == PEAL_OK ? stats_print(&stats) : fail_reading(err, dir);
}

static void on_problem(void *ctx, const char *text)
{
    const struct peal_verify *verify = ctx;
    if (verify->problems <= PROBLEMS_SHOWN) fprintf(stdout, "%s\n", text);
    if (verify->problems == PROBLEMS_SHOWN + 1) fprintf(stdout, "... and more\n");
}

static int verify_run(struct peal_survey *survey, const char *dir)
{
    char text[200];
    struct peal_verify verify = {.ctx = &verify, .problem = on_problem};
    enum peal_err err = peal_verify_run(survey, &verify);
    if (err != PEAL_OK) return fail_reading(err, dir);
    snprintf(text, sizeof text, "%s: %llu problems, %llu records, %llu heads, %llu messages\n",
             verify.problems == 0 ? "ok" : "damaged", (unsigned long long)verify.problems,
             (unsigned long long)verify.records, (unsigned long long)verify.heads,
             (unsigned long long)verify.messages);
    int code = peal_print(peal_span_of(text));
    return code == PEAL_EXIT_OK && verify.problems > 0 ? PEAL_EXIT_DAMAGED : code;
}

static int dump_run(struct peal_survey *survey, const char *dir)
{
    struct peal_dump_result result;
    errno = 0;
    enum peal_err err = peal_dump_write(survey, stdout, &result);
    if (err == PEAL_EIO && errno != 0)
        return peal_fail(PEAL_EXIT_UNAVAILABLE, "io_error", "cannot write: %s", strerror(errno));
    if (err != PEAL_OK) return fail_reading(err, dir);
    if (result.damaged == 0) return PEAL_EXIT_OK;
    return peal_fail(PEAL_EXIT_DAMAGED, "damaged",
                     "%llu damaged records were left out; peal store verify names them",
                     (unsigned long long)result.damaged);
}

static int with_survey(const char *dir, int (*run)(struct peal_survey *survey, const char *dir))
{
    char why[WHY_ROOM];
    struct peal_survey survey;
    enum peal_err err = peal_survey_open(&survey, dir, why, sizeof why);
    int code = err == PEAL_OK ? run(&survey, dir) : fail_store(err, why);
    peal_survey_close(&survey);
    return code;
}

static int stats_verb(char **args)
{
    return with_survey(args[0], stats_run);
}

static int verify_verb(char **args)
{
    return with_survey(args[0], verify_run);
}

static int dump_verb(char **args)
{
    return with_survey(args[0], dump_run);
}

static int load_verb(char **args)
{
    char why[WHY_ROOM];
    char text[200];
    struct peal_dump_result result;
    enum peal_err err = peal_dump_load(args[0], stdin, &result, why, sizeof why);
    if (err != PEAL_OK && result.line > 0) {
        char there[WHY_ROOM + 40];
        snprintf(there, sizeof there, "line %llu: %s", (unsigned long long)result.line, why);
        return fail_store(err, there);
    }
    if (err != PEAL_OK) return fail_store(err, why);
    snprintf(text, sizeof text, "%llu groups, %llu messages\n", (unsigned long long)result.groups,
             (unsigned long long)result.messages);
    return peal_print(peal_span_of(text));
}

static int backup_verb(char **args)
{
    char why[WHY_ROOM];
    enum peal_err err = peal_backup_make(args[0], args[1], why, sizeof why);
    return err == PEAL_OK ? PEAL_EXIT_OK : fail_store(err, why);
}

static int compact_verb(char **args)
{
    char why[WHY_ROOM];
    char text[200];
    struct peal_compacted done;
    enum peal_err err = peal_backup_compact(args[0], &done, why, sizeof why);
    if (err != PEAL_OK) return fail_store(err, why);
    snprintf(text, sizeof text, "%llu bytes before, %llu after\n",
             (unsigned long long)done.bytes_before, (unsigned long long)done.bytes_after);
    return peal_print(peal_span_of(text));
}

/* ---- the command -------------------------------------------------------------------------- */

struct verb {
    const char *name;
    int args;
    int (*run)(char **args);
};

static const struct verb verbs[] = {
    {"stats", 1, stats_verb}, {"verify", 1, verify_verb}, {"dump", 1, dump_verb},
    {"load", 1, load_verb},   {"backup", 2, backup_verb}, {"compact", 1, compact_verb},
};

/* Ends as the child does; a signal that the file is at fault for is a damaged file. */
static int in_child(const struct verb *verb, char **args)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        return peal_fail(PEAL_EXIT_UNAVAILABLE, "io_error", "cannot fork: %s", strerror(errno));
    if (pid == 0) {
        /* Whoever handles them, such as a sanitizer: here they say what the file is. */
        signal(SIGBUS, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* who ends the command means this */
        int code = verb->run(args);
        fflush(stdout);
        _exit(code);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return PEAL_EXIT_BUG;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    int number = WTERMSIG(status);
    if (number != SIGBUS && number != SIGSEGV && number != SIGABRT && number != SIGFPE)
        return 128 + number;
    return peal_fail(PEAL_EXIT_DAMAGED, "damaged",
                     "the data in %s is damaged: reading it ended with signal %d; restore a backup",
                     args[0], number);
}

int peal_verb_store(int argc, char **argv)
{
    peal_args_start();
    int option = peal_args_next(argc, argv, options);
    if (option == 'h') return peal_print(peal_span_of(usage));
    if (option != -1) return PEAL_EXIT_USAGE;
    int given = argc - optind;
    for (size_t i = 0; given > 0 && i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[optind], verbs[i].name) != 0) continue;
        if (given == 1 + verbs[i].args) return in_child(&verbs[i], argv + optind + 1);
        return peal_fail(PEAL_EXIT_USAGE, "usage", "peal store %s needs %s", verbs[i].name,
                         verbs[i].args == 2 ? "DIR and TO" : "DIR");
    }
    if (given == 0) return peal_fail(PEAL_EXIT_USAGE, "usage", "see peal store --help");
    return peal_fail(PEAL_EXIT_USAGE, "usage", "there is no \"%s\"; see peal store --help",
                     argv[optind]);
}
