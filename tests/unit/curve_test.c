#include "base/curve.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

/* A pair that zmq_curve_keypair made. */
#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
/* Of another pair. */
#define OTHER_PUBLIC "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static char dir[64];
static char file[128];
static char why[400];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/peal-curve-XXXXXX");
    if (mkdtemp(dir) == NULL) return -1;
    snprintf(file, sizeof file, "%s/key", dir);
    why[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(dir); /* fails when anything else was left behind */
}

static void write_file(const char *text, mode_t mode)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

/* The example of RFC 32, as often as a key has room. */
static void curve_text_is_z85(void **state)
{
    (void)state;
    static const unsigned char eight[8] = {0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b};
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    unsigned char back[PEAL_CURVE_KEY_BYTES];
    char text[PEAL_CURVE_TEXT + 1];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = eight[i % 8];
    peal_curve_encode(key, text);
    assert_string_equal(text, "HelloWorldHelloWorldHelloWorldHelloWorld");
    assert_true(peal_curve_decode(peal_span_of(text), back));
    assert_memory_equal(key, back, sizeof key);
}

static void curve_text_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "HelloWorldHelloWorldHelloWorldHelloWorl",
        "HelloWorldHelloWorldHelloWorldHelloWorld0",
        "HelloWorld HelloWorldHelloWorldHelloWorl",
        "HelloWorldHelloWorldHelloWorldHelloWor\"d",
        "HelloWorldHelloWorldHelloWorldHelloWor\xc3\xa4",
        "#####HelloWorldHelloWorldHelloWorldHello", /* 85^5 - 1 is above 2^32 */
        "%nSc1HelloWorldHelloWorldHelloWorldHello", /* 2^32 */
    };
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (peal_curve_decode(peal_span_of(texts[i]), key)) fail_msg("%s", texts[i]);
    assert_true(peal_curve_decode(peal_span_of("%nSc0HelloWorldHelloWorldHelloWorldHello"), key));
    assert_memory_equal(key, "\xff\xff\xff\xff", 4);
    assert_false(peal_curve_decode(peal_span_make(texts[1], 40), key)); /* with its NUL */
}

static void curve_pair_made_is_read_again(void **state)
{
    (void)state;
    struct peal_curve_pair made;
    struct peal_curve_pair read;
    struct stat st;
    assert_int_equal(peal_curve_make(&made), PEAL_OK);
    mode_t mask = umask(0777);
    assert_int_equal(peal_curve_write(file, &made, why, sizeof why), PEAL_OK);
    umask(mask);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(peal_curve_read(file, &read, why, sizeof why), PEAL_OK);
    assert_memory_equal(&made, &read, sizeof made);
}

static void curve_pairs_made_differ(void **state)
{
    (void)state;
    struct peal_curve_pair a;
    struct peal_curve_pair b;
    assert_int_equal(peal_curve_make(&a), PEAL_OK);
    assert_int_equal(peal_curve_make(&b), PEAL_OK);
    assert_string_not_equal(a.public_key, b.public_key);
    assert_string_not_equal(a.secret_key, b.secret_key);
}

static void curve_file_that_exists_is_not_replaced(void **state)
{
    (void)state;
    struct peal_curve_pair pair;
    char text[16] = "";
    assert_int_equal(peal_curve_make(&pair), PEAL_OK);
    write_file("mine", 0600);
    assert_int_equal(peal_curve_write(file, &pair, why, sizeof why), PEAL_EINUSE);
    assert_non_null(strstr(why, file));
    FILE *in = fopen(file, "r");
    assert_non_null(in);
    assert_int_equal(fread(text, 1, sizeof text - 1, in), 4);
    fclose(in);
    assert_string_equal(text, "mine");

    unlink(file);
    assert_int_equal(symlink("/nonexistent/target", file), 0);
    assert_int_equal(peal_curve_write(file, &pair, why, sizeof why), PEAL_EINUSE);
}

static void curve_file_in_a_folder_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct peal_curve_pair pair = {0};
    assert_int_equal(peal_curve_write("/nonexistent/key", &pair, why, sizeof why), PEAL_EIO);
    assert_non_null(strstr(why, "/nonexistent/key"));
    assert_int_equal(peal_curve_read("/nonexistent/key", &pair, why, sizeof why), PEAL_EIO);
    assert_non_null(strstr(why, "/nonexistent/key"));
}

static void curve_text_of_a_pair_is_taken_in_any_order(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "public " PUBLIC "\nsecret " SECRET "\n",
        "# by hand\n\nsecret " SECRET "\r\n  public \t" PUBLIC,
        "public  " PUBLIC " \n#public x\nsecret " SECRET,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct peal_curve_pair pair;
        assert_int_equal(peal_curve_parse(peal_span_of(texts[i]), &pair, why, sizeof why), PEAL_OK);
        assert_string_equal(pair.public_key, PUBLIC);
        assert_string_equal(pair.secret_key, SECRET);
    }
}

static void curve_text_that_is_no_pair_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"", "1: there is no line `public KEY`"},
        {"public " PUBLIC "\n", "1: there is no line `secret KEY`"},
        {"secret " SECRET "\n", "1: there is no line `public KEY`"},
        {"\npublic " PUBLIC "\npublic " PUBLIC "\n", "3: this key is given twice"},
        {"public " PUBLIC "\nsecret short\n", "2: the key is not 40 characters of Z85"},
        {"public " PUBLIC "\nsecret " SECRET "x\n", "2: the key is not 40 characters of Z85"},
        {"public " OTHER_PUBLIC "\nsecret " SECRET "\n", "2: the two keys are not a pair"},
        {"private " SECRET "\n", "1: expected `public` or `secret` and a key"},
        {"public\n", "1: expected `public` or `secret` and a key"},
        {PUBLIC "\n" SECRET "\n", "1: expected `public` or `secret` and a key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peal_curve_pair pair;
        assert_int_equal(peal_curve_parse(peal_span_of(cases[i].text), &pair, why, sizeof why),
                         PEAL_ECONFIG);
        assert_string_equal(why, cases[i].why);
        assert_string_equal(pair.secret_key, "");
    }
}

static void curve_file_that_others_may_touch_is_refused(void **state)
{
    (void)state;
    static const struct {
        mode_t mode;
        bool good;
    } cases[] = {
        {0600, true},  {0400, true},  {0640, false}, {0604, false},  {0644, false}, {0620, false},
        {0440, false}, {0700, false}, {0500, false}, {04600, false}, {0666, false}, {0200, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peal_curve_pair pair;
        unlink(file);
        write_file("public " PUBLIC "\nsecret " SECRET "\n", cases[i].mode);
        enum peal_err err = peal_curve_read(file, &pair, why, sizeof why);
        if ((err == PEAL_OK) != cases[i].good) fail_msg("mode %04o: %s", cases[i].mode, why);
        if (err == PEAL_OK) continue;
        assert_non_null(strstr(why, file));
        assert_null(strstr(why, SECRET));
    }
}

static void curve_file_of_somebody_else_is_refused(void **state)
{
    (void)state;
    struct peal_curve_pair pair;
    if (geteuid() != 0) skip(); /* only root can give a file away */
    write_file("public " PUBLIC "\nsecret " SECRET "\n", 0600);
    assert_int_equal(chown(file, 12345, (gid_t)-1), 0);
    assert_int_equal(peal_curve_read(file, &pair, why, sizeof why), PEAL_ECONFIG);
    assert_non_null(strstr(why, "user 12345"));
}

static void curve_file_that_is_none_is_refused(void **state)
{
    (void)state;
    struct peal_curve_pair pair;
    assert_int_equal(mkfifo(file, 0600), 0);
    assert_int_equal(peal_curve_read(file, &pair, why, sizeof why), PEAL_ECONFIG);
    assert_non_null(strstr(why, "not a regular file"));
    assert_int_equal(peal_curve_read(dir, &pair, why, sizeof why), PEAL_ECONFIG);
    assert_non_null(strstr(why, "not a regular file"));
}

static void curve_file_with_an_error_names_file_and_line(void **state)
{
    (void)state;
    struct peal_curve_pair pair;
    char begin[200];
    write_file("public " PUBLIC "\nsecret nothing\n", 0600);
    assert_int_equal(peal_curve_read(file, &pair, why, sizeof why), PEAL_ECONFIG);
    snprintf(begin, sizeof begin, "%s:2: ", file);
    assert_memory_equal(why, begin, strlen(begin));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(curve_text_is_z85),
        TEST(curve_text_that_is_none_is_refused),
        TEST(curve_pair_made_is_read_again),
        TEST(curve_pairs_made_differ),
        TEST(curve_file_that_exists_is_not_replaced),
        TEST(curve_file_in_a_folder_that_is_not_there_is_an_error),
        TEST(curve_text_of_a_pair_is_taken_in_any_order),
        TEST(curve_text_that_is_no_pair_is_refused_with_its_line),
        TEST(curve_file_that_others_may_touch_is_refused),
        TEST(curve_file_of_somebody_else_is_refused),
        TEST(curve_file_that_is_none_is_refused),
        TEST(curve_file_with_an_error_names_file_and_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
