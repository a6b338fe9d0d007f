#include "base/peers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/unit/unit.h"

#define A "HelloWorldHelloWorldHelloWorldHelloWorld"
#define B "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define C "#ne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID" /* no group of five: too large */
#define D "012#4HelloWorldHelloWorldHelloWorldHello"

static char why[400];

static enum peal_err parse(const char *text, struct peal_peers *peers)
{
    why[0] = '\0';
    return peal_peers_parse(peal_span_of(text), peers, why, sizeof why);
}

static const struct peal_peers_entry *find(const struct peal_peers *peers, const char *text)
{
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    assert_true(peal_curve_decode(peal_span_of(text), key));
    return peal_peers_find(peers, key);
}

static void peers_are_found_by_key(void **state)
{
    (void)state;
    struct peal_peers peers;
    assert_int_equal(parse("# who may come in\n"
                           "\n"
                           " " A "  node   edge-1.zone_a \r\n" B "\tpublisher\n" D " publisher 7",
                           &peers),
                     PEAL_OK);
    assert_int_equal(peers.count, 3);
    const struct peal_peers_entry *a = find(&peers, A);
    assert_non_null(a);
    assert_int_equal(a->role, PEAL_ROLE_NODE);
    assert_string_equal(a->name, "edge-1.zone_a");
    assert_int_equal(a->line, 3);
    const struct peal_peers_entry *b = find(&peers, B);
    assert_non_null(b);
    assert_int_equal(b->role, PEAL_ROLE_PUBLISHER);
    assert_string_equal(b->name, "");
    assert_string_equal(find(&peers, D)->name, "7");
    assert_null(find(&peers, "HelloWorldHelloWorldHelloWorldHelloWorlc"));
    peal_peers_fini(&peers);
}

static void peers_none_are_found_in_an_empty_list(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "\n\n", "#", "# " A " node x", "#" A " node x", C " sometimes\n", "####"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct peal_peers peers;
        assert_int_equal(parse(texts[i], &peers), PEAL_OK);
        assert_int_equal(peers.count, 0);
        assert_null(find(&peers, A));
        peal_peers_fini(&peers);
    }
}

/* # is a digit of Z85, so a key could look like a comment if one began so. The largest first digit
 * that four bytes have is %, the third from the end. */
static void peers_no_key_begins_with_a_hash(void **state)
{
    (void)state;
    unsigned char key[PEAL_CURVE_KEY_BYTES];
    char text[PEAL_CURVE_TEXT + 1];
    memset(key, 0xff, sizeof key);
    peal_curve_encode(key, text);
    assert_int_equal(text[0], '%');
    assert_false(peal_curve_decode(peal_span_of(C), key));
}

static void peers_wrong_line_is_refused_and_numbered(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"node\n", "1: the key is not 40 characters of Z85"},
        {A "\n", "1: there is no role behind the key: publisher or node"},
        {A " # node\n", "1: the role is neither publisher nor node"},
        {A " Node\n", "1: the role is neither publisher nor node"},
        {A " nodes\n", "1: the role is neither publisher nor node"},
        {A " node,publisher\n", "1: the role is neither publisher nor node"},
        {"\n" A "x node\n", "2: the key is not 40 characters of Z85"},
        {A " node a\n\n# x\n" B " node a/b\n",
         "4: the name is not 1 to 64 letters, digits, dots, - or _"},
        {A " node 12345678901234567890123456789012345678901234567890123456789012345\n",
         "1: the name is not 1 to 64 letters, digits, dots, - or _"},
        {A " node a b\n", "1: there is something behind the name"},
        {A " node a\n" B " node\n" A " publisher\n", "3: the key of line 1 again"},
        {"node " A "\n", "1: the key is not 40 characters of Z85"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peal_peers peers;
        assert_int_equal(parse(cases[i].text, &peers), PEAL_ECONFIG);
        assert_string_equal(why, cases[i].why);
        assert_null(peers.at);
    }
}

static void peers_line_with_a_nul_is_refused(void **state)
{
    (void)state;
    struct peal_peers peers;
    static const char text[] = A " node a\0b\n";
    struct peal_span span = peal_span_make(text, sizeof text - 1);
    assert_int_equal(peal_peers_parse(span, &peers, why, sizeof why), PEAL_ECONFIG);
}

static void peers_many_are_all_found(void **state)
{
    (void)state;
    struct peal_buf text = {0};
    struct peal_peers peers;
    unsigned char key[PEAL_CURVE_KEY_BYTES] = {0};
    char z85[PEAL_CURVE_TEXT + 1];
    for (unsigned i = 0; i <= PEAL_PEERS_MAX; i++) {
        memcpy(key, &i, sizeof i);
        peal_curve_encode(key, z85);
        peal_buf_add_format(&text, "%s node n%u\n", z85, i);
    }
    assert_false(text.failed);
    assert_int_equal(peal_peers_parse(peal_buf_span(&text), &peers, why, sizeof why), PEAL_ECONFIG);
    assert_string_equal(why, "65537: too many peers");
    const char *last = memrchr(text.at, '\n', text.size - 1);
    text.size = (size_t)(last - text.at);
    assert_int_equal(peal_peers_parse(peal_buf_span(&text), &peers, why, sizeof why), PEAL_OK);
    assert_int_equal(peers.count, PEAL_PEERS_MAX);
    for (unsigned i = 0; i < PEAL_PEERS_MAX; i += 97) {
        char name[16];
        memcpy(key, &i, sizeof i);
        snprintf(name, sizeof name, "n%u", i);
        assert_string_equal(peal_peers_find(&peers, key)->name, name);
    }
    peal_peers_fini(&peers);
    peal_buf_fini(&text);
}

static void peers_file_is_read_and_its_errors_name_it(void **state)
{
    (void)state;
    struct peal_peers peers;
    char path[] = "/tmp/peal-peers-XXXXXX";
    char begin[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, A " node a\n", 48), 48);
    assert_int_equal(peal_peers_read(path, &peers, why, sizeof why), PEAL_OK);
    assert_int_equal(peers.count, 1);
    peal_peers_fini(&peers);

    assert_int_equal(write(fd, "oops\n", 5), 5);
    assert_int_equal(peal_peers_read(path, &peers, why, sizeof why), PEAL_ECONFIG);
    snprintf(begin, sizeof begin, "%s:2: ", path);
    assert_memory_equal(why, begin, strlen(begin));

    assert_int_equal(fchmod(fd, 0602), 0);
    assert_int_equal(peal_peers_read(path, &peers, why, sizeof why), PEAL_EIO);
    assert_non_null(strstr(why, "others may write to it"));
    close(fd);
    unlink(path);
    assert_int_equal(peal_peers_read(path, &peers, why, sizeof why), PEAL_EIO);
    assert_non_null(strstr(why, path));
    assert_int_equal(peal_peers_read("/tmp", &peers, why, sizeof why), PEAL_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_are_found_by_key),
        cmocka_unit_test(peers_none_are_found_in_an_empty_list),
        cmocka_unit_test(peers_no_key_begins_with_a_hash),
        cmocka_unit_test(peers_wrong_line_is_refused_and_numbered),
        cmocka_unit_test(peers_line_with_a_nul_is_refused),
        cmocka_unit_test(peers_many_are_all_found),
        cmocka_unit_test(peers_file_is_read_and_its_errors_name_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
