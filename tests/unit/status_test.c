/* Speaks HTTP to the real listener on a free port: it is a wrapper around a library, and what
 * the library answers is what there is to test. */
#include "base/status.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/metrics.h"
#include "tests/unit/unit.h"

static int start(void **state)
{
    struct peal_status *status;
    char why[200];
    if (peal_status_start("127.0.0.1:0", &status, why, sizeof why) != PEAL_OK) return -1;
    *state = status;
    return 0;
}

static int stop(void **state)
{
    peal_status_stop(*state);
    return 0;
}

static int connect_to(const struct peal_status *status)
{
    struct timeval patience = {.tv_sec = 10};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(peal_status_port(status)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends head and returns all of the answer; the text is overwritten by the next call. */
static const char *ask(const struct peal_status *status, const char *method, const char *path)
{
    static char answer[65536];
    char head[200];
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                     method, path);
    int fd = connect_to(status);
    assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
    size_t size = 0;
    for (ssize_t got; (got = recv(fd, answer + size, sizeof answer - 1 - size, 0)) != 0;) {
        assert_true(got > 0);
        size += (size_t)got;
    }
    close(fd);
    answer[size] = '\0';
    return answer;
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static int code_of(const char *answer)
{
    assert_memory_equal(answer, "HTTP/1.1 ", 9);
    return atoi(answer + 9);
}

static void status_livez_answers_ok(void **state)
{
    const char *answer = ask(*state, "GET", "/livez");
    assert_int_equal(code_of(answer), 200);
    assert_string_equal(body_of(answer), "ok\n");
    assert_int_equal(code_of(ask(*state, "GET", "/livez?verbose")), 200);
}

static void status_readyz_follows_the_flag(void **state)
{
    assert_int_equal(code_of(ask(*state, "GET", "/readyz")), 503);
    peal_status_ready(*state, true);
    assert_int_equal(code_of(ask(*state, "GET", "/readyz")), 200);
    peal_status_ready(*state, false);
    const char *answer = ask(*state, "GET", "/readyz");
    assert_int_equal(code_of(answer), 503);
    assert_string_equal(body_of(answer), "not ready\n");
}

static void status_metrics_shows_the_counters(void **state)
{
    peal_metrics_thread_start();
    peal_count(PEAL_M_ACCEPTED, 41);
    const char *answer = ask(*state, "GET", "/metrics");
    assert_int_equal(code_of(answer), 200);
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4\r\n"));
    assert_non_null(strstr(body_of(answer), "\npeal_publishes_accepted_total 41\n"));
}

static void status_head_has_no_body(void **state)
{
    const char *answer = ask(*state, "HEAD", "/livez");
    assert_int_equal(code_of(answer), 200);
    assert_non_null(strstr(answer, "Content-Length: 3\r\n"));
    assert_string_equal(body_of(answer), "");
}

static void status_unknown_path_is_404_as_json(void **state)
{
    const char *const paths[] = {"/", "/livez/", "/v1/publish", "/../metrics"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *answer = ask(*state, "GET", paths[i]);
        assert_int_equal(code_of(answer), 404);
        assert_non_null(strstr(answer, "Content-Type: application/json\r\n"));
        assert_memory_equal(body_of(answer), "{\"error\":{\"code\":\"not_found\",\"message\":\"",
                            40);
    }
}

static void status_other_method_is_405_and_names_those_allowed(void **state)
{
    const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "BREW"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const char *answer = ask(*state, methods[i], "/livez");
        assert_int_equal(code_of(answer), 405);
        assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
        assert_non_null(strstr(body_of(answer), "\"code\":\"method_not_allowed\""));
    }
}

static void status_at_its_connection_limit_goes_on_when_some_leave(void **state)
{
    int idle[63];
    for (int i = 0; i < 63; i++)
        idle[i] = connect_to(*state);
    /* The 64th is still served; those over the limit wait in the backlog. */
    assert_int_equal(code_of(ask(*state, "GET", "/livez")), 200);
    int more = connect_to(*state);
    int beyond = connect_to(*state);
    close(beyond);
    for (int i = 0; i < 63; i++)
        close(idle[i]);
    close(more);
    assert_int_equal(code_of(ask(*state, "GET", "/livez")), 200);
}

static void status_port_in_use_is_refused_by_name(void **state)
{
    struct peal_status *second = *state;
    char listen[64];
    char expected[128];
    char why[128];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", peal_status_port(*state));
    snprintf(expected, sizeof expected, "%s is in use by another process", listen);
    assert_int_equal(peal_status_start(listen, &second, why, sizeof why), PEAL_EINUSE);
    assert_null(second);
    assert_string_equal(why, expected);
}

static void status_port_is_free_again_after_stop(void **state)
{
    struct peal_status *status;
    char listen[64];
    char why[128];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", peal_status_port(*state));
    ask(*state, "GET", "/livez");
    peal_status_stop(*state);
    assert_int_equal(peal_status_start(listen, &status, why, sizeof why), PEAL_OK);
    *state = status;
    assert_int_equal(code_of(ask(status, "GET", "/livez")), 200);
}

static void status_bad_address_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"", "8081", "127.0.0.1:", "127.0.0.1:99999", "192.0.2.1:0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct peal_status *status;
        char why[128] = "";
        assert_int_equal(peal_status_start(bad[i], &status, why, sizeof why), PEAL_EBAD_FIELD);
        assert_null(status);
        assert_string_not_equal(why, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(status_livez_answers_ok, start, stop),
        cmocka_unit_test_setup_teardown(status_readyz_follows_the_flag, start, stop),
        cmocka_unit_test_setup_teardown(status_metrics_shows_the_counters, start, stop),
        cmocka_unit_test_setup_teardown(status_head_has_no_body, start, stop),
        cmocka_unit_test_setup_teardown(status_unknown_path_is_404_as_json, start, stop),
        cmocka_unit_test_setup_teardown(status_other_method_is_405_and_names_those_allowed, start,
                                        stop),
        cmocka_unit_test_setup_teardown(status_at_its_connection_limit_goes_on_when_some_leave,
                                        start, stop),
        cmocka_unit_test_setup_teardown(status_port_in_use_is_refused_by_name, start, stop),
        cmocka_unit_test_setup_teardown(status_port_is_free_again_after_stop, start, stop),
        cmocka_unit_test(status_bad_address_is_refused),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
