/* bench/floor.c: peal-floor, the least that a push server can do. Other servers are measured as
 * a ratio to it.
 *
 * One thread, one epoll instance, three kinds of sockets: two listeners, publishers, members.
 * A member is a WebSocket that sends one text frame, `sub <group>`, and is answered `ok <group>`.
 * A publisher sends records: u32 little endian size of the whole record, u16 size of the name,
 * name, payload. A payload is framed once and those bytes go to every member of the group:
 *
 *   send   one send() for each member and message
 *   coal   what was read from the publishers in one turn of the loop is joined by group, and
 *          each member gets it in one send()
 *
 * Nothing is lost: what a socket does not take is kept for that member, and while there is such
 * a rest no publisher is read. So one member that does not read holds up all, which a real server
 * must not do.
 *
 * Memory: 32 bytes for each possible descriptor, touched only when it is used, and 4 for each
 * place in a group. Buffers exist only while something is incomplete. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/map.h"

enum {
    EVENTS_MAX = 1024,
    READ_BYTES = 256 * 1024,      /* of one publisher in one turn */
    BATCH_BYTES_MAX = 256 * 1024, /* of one group in one turn */
    RECORD_BYTES_MAX = 1024 * 1024,
    CARRY_BYTES_MAX = 8 * 1024, /* a request head, or a frame of a member */
    NAME_BYTES_MAX = 200
};

enum kind {
    KIND_NONE,
    KIND_DOOR,    /* listener for members */
    KIND_PUBDOOR, /* listener for publishers */
    KIND_SIGNAL,
    KIND_PUBLISHER,
    KIND_HEAD,  /* a member whose request is not complete */
    KIND_MEMBER /* a WebSocket, in a group or not */
};

/* What belongs to a descriptor; its number is the index. */
struct sock {
    struct group *group;
    struct peal_buf *carry; /* bytes of what is not complete yet */
    struct peal_buf *rest;  /* bytes that the kernel did not take yet */
    uint32_t place;         /* in group->members */
    uint8_t kind;
    bool closing; /* closed as soon as the rest is gone */
};

struct group {
    struct peal_map_node node;
    uint32_t *members; /* descriptors */
    uint32_t count;
    uint32_t capacity;
    bool dirty;
    struct group *dirty_next;
    struct peal_buf batch;
    char name[];
};

struct floor {
    int epoll;
    struct sock *socks;
    uint32_t sock_max;
    uint32_t rest_count; /* members with a rest */
    bool coal;
    bool paused; /* publishers are not read */
    bool stop;
    struct peal_map groups;
    struct group *dirty;
    char *input; /* READ_BYTES */
};

static void die(const char *what)
{
    fprintf(stderr, "peal-floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(struct floor *floor, int op, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(floor->epoll, op, fd, &event) != 0) die("epoll_ctl");
}

static void buf_drop(struct peal_buf **buf)
{
    if (*buf == NULL) return;
    peal_buf_fini(*buf);
    free(*buf);
    *buf = NULL;
}

static void buf_keep(struct peal_buf **buf, const char *at, size_t size)
{
    if (*buf == NULL) *buf = calloc(1, sizeof(**buf));
    if (*buf == NULL) die("memory");
    peal_buf_add(*buf, at, size);
    if ((*buf)->failed) die("memory");
}

/* ---- Groups ------------------------------------------------------------------------------- */

static struct group *group_find(struct floor *floor, struct peal_span name)
{
    struct peal_map_node *node = peal_map_find(&floor->groups, name);
    return node == NULL ? NULL : PEAL_FROM_NODE(node, struct group, node);
}

static struct group *group_get(struct floor *floor, struct peal_span name)
{
    struct group *group = group_find(floor, name);
    if (group != NULL) return group;
    group = calloc(1, sizeof(*group) + name.size);
    if (group == NULL) die("memory");
    memcpy(group->name, name.at, name.size);
    peal_map_add(&floor->groups, &group->node, peal_span_make(group->name, name.size));
    return group;
}

static void group_join(struct floor *floor, struct group *group, int fd)
{
    if (group->count == group->capacity) {
        uint32_t capacity = group->capacity == 0 ? 1 : group->capacity * 2;
        uint32_t *members = realloc(group->members, capacity * sizeof(*members));
        if (members == NULL) die("memory");
        group->members = members;
        group->capacity = capacity;
    }
    floor->socks[fd].group = group;
    floor->socks[fd].place = group->count;
    group->members[group->count++] = (uint32_t)fd;
}

/* The last member takes the place that becomes free. */
static void group_leave(struct floor *floor, int fd)
{
    struct sock *sock = &floor->socks[fd];
    struct group *group = sock->group;
    if (group == NULL) return;
    uint32_t last = group->members[--group->count];
    group->members[sock->place] = last;
    floor->socks[last].place = sock->place;
    sock->group = NULL;
}

/* ---- Sending ------------------------------------------------------------------------------ */

static void sock_close(struct floor *floor, int fd)
{
    struct sock *sock = &floor->socks[fd];
    group_leave(floor, fd);
    if (sock->rest != NULL) floor->rest_count--;
    buf_drop(&sock->rest);
    buf_drop(&sock->carry);
    *sock = (struct sock){0};
    close(fd);
}

static void sock_keep_rest(struct floor *floor, int fd, const char *at, size_t size)
{
    struct sock *sock = &floor->socks[fd];
    if (sock->rest == NULL) {
        floor->rest_count++;
        watch(floor, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
    }
    buf_keep(&sock->rest, at, size);
}

/* A socket that is broken says so by an event of its own, which is where it is closed: the
 * members of a group must not change while it is walked. */
static void sock_send(struct floor *floor, int fd, const char *at, size_t size)
{
    if (floor->socks[fd].rest != NULL) {
        buf_keep(&floor->socks[fd].rest, at, size);
        return;
    }
    ssize_t sent = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == (ssize_t)size) return;
    if (sent < 0 && errno != EAGAIN) return;
    size_t done = sent < 0 ? 0 : (size_t)sent;
    sock_keep_rest(floor, fd, at + done, size - done);
}

static void sock_on_writable(struct floor *floor, int fd)
{
    struct sock *sock = &floor->socks[fd];
    if (sock->rest == NULL) return;
    ssize_t sent = send(fd, sock->rest->at, sock->rest->size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
        sock_close(floor, fd);
        return;
    }
    size_t left = sock->rest->size - (size_t)sent;
    memmove(sock->rest->at, sock->rest->at + sent, left);
    sock->rest->size = left;
    if (left > 0) return;
    buf_drop(&sock->rest);
    floor->rest_count--;
    if (sock->closing) {
        sock_close(floor, fd);
        return;
    }
    watch(floor, EPOLL_CTL_MOD, fd, EPOLLIN);
}

/* RFC 6455 section 5.2, unmasked, one frame. */
static void frame_add(struct peal_buf *out, uint8_t opcode, const char *at, size_t size)
{
    peal_buf_add_char(out, (char)(0x80 | opcode));
    if (size < 126) {
        peal_buf_add_char(out, (char)size);
    } else if (size <= UINT16_MAX) {
        peal_buf_add_char(out, 126);
        uint16_t length = htons((uint16_t)size);
        peal_buf_add(out, &length, sizeof(length));
    } else {
        peal_buf_add_char(out, 127);
        uint64_t length = __builtin_bswap64(size);
        peal_buf_add(out, &length, sizeof(length));
    }
    peal_buf_add(out, at, size);
    if (out->failed) die("memory");
}

static void group_flush(struct floor *floor, struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        sock_send(floor, (int)group->members[i], group->batch.at, group->batch.size);
    group->batch.size = 0;
}

static void group_publish(struct floor *floor, struct group *group, struct peal_span payload)
{
    frame_add(&group->batch, 1, payload.at, payload.size);
    if (!floor->coal || group->batch.size >= BATCH_BYTES_MAX) {
        group_flush(floor, group);
        return;
    }
    if (group->dirty) return;
    group->dirty = true;
    group->dirty_next = floor->dirty;
    floor->dirty = group;
}

static void flush_dirty(struct floor *floor)
{
    while (floor->dirty != NULL) {
        struct group *group = floor->dirty;
        floor->dirty = group->dirty_next;
        group->dirty = false;
        group_flush(floor, group);
    }
}

/* ---- Publishers --------------------------------------------------------------------------- */

/* Publishes the record that `in` begins with. Returns its size, 0 when it is not complete, -1
 * when it is none. */
static ssize_t record_take(struct floor *floor, struct peal_span in)
{
    uint32_t size;
    uint16_t name_size;
    if (in.size < sizeof(size) + sizeof(name_size)) return 0;
    memcpy(&size, in.at, sizeof(size));
    memcpy(&name_size, in.at + sizeof(size), sizeof(name_size));
    size_t head = sizeof(size) + sizeof(name_size) + name_size;
    if (size > RECORD_BYTES_MAX || size < head || name_size > NAME_BYTES_MAX) return -1;
    if (in.size < size) return 0;
    struct group *group = group_find(floor, peal_span_make(in.at + head - name_size, name_size));
    if (group != NULL) group_publish(floor, group, peal_span_make(in.at + head, size - head));
    return (ssize_t)size;
}

static void publisher_on_readable(struct floor *floor, int fd)
{
    struct sock *sock = &floor->socks[fd];
    ssize_t got = recv(fd, floor->input, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        sock_close(floor, fd);
        return;
    }
    struct peal_span in = {floor->input, (size_t)got};
    struct peal_buf *carried = sock->carry;
    if (carried != NULL) {
        buf_keep(&carried, in.at, in.size);
        in = peal_buf_span(carried);
    }
    ssize_t taken;
    while ((taken = record_take(floor, in)) > 0) {
        in.at += taken;
        in.size -= (size_t)taken;
    }
    if (taken < 0) {
        fprintf(stderr, "peal-floor: a record that is none\n");
        sock_close(floor, fd);
        return;
    }
    sock->carry = NULL;
    if (in.size > 0) buf_keep(&sock->carry, in.at, in.size);
    buf_drop(&carried);
}

/* ---- Members ------------------------------------------------------------------------------ */

static void upgrade_answer(struct floor *floor, int fd, struct peal_span key)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[SHA_DIGEST_LENGTH];
    char accept[2 * SHA_DIGEST_LENGTH];
    struct peal_buf text = {0};
    peal_buf_add_span(&text, key);
    peal_buf_add_text(&text, guid);
    if (text.failed) die("memory");
    SHA1((const unsigned char *)text.at, text.size, digest);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest));
    text.size = 0;
    peal_buf_add_format(&text,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    sock_send(floor, fd, text.at, text.size);
    peal_buf_fini(&text);
}

/* Answers the head that `in` begins with. Returns its size, 0 when it is not complete, -1 when it
 * is no upgrade. */
static ssize_t head_take(struct floor *floor, int fd, struct peal_span in)
{
    const char *end = memmem(in.at, in.size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    size_t size = (size_t)(end + 4 - in.at);
    /* strcasestr wants a NUL. */
    char head[CARRY_BYTES_MAX + 1];
    if (size > CARRY_BYTES_MAX || !peal_span_starts(in, "GET /")) return -1;
    memcpy(head, in.at, size);
    head[size] = '\0';
    static const char name[] = "\r\nSec-WebSocket-Key:";
    const char *key = strcasestr(head, name);
    if (key == NULL) return -1;
    key += sizeof(name) - 1;
    key += strspn(key, " ");
    upgrade_answer(floor, fd, peal_span_make(key, strcspn(key, " \r")));
    floor->socks[fd].kind = KIND_MEMBER;
    return (ssize_t)size;
}

static void answer(struct floor *floor, int fd, uint8_t opcode, const char *at, size_t size)
{
    struct peal_buf out = {0};
    frame_add(&out, opcode, at, size);
    sock_send(floor, fd, out.at, out.size);
    peal_buf_fini(&out);
}

/* Returns false when the connection is over. */
static bool member_on_frame(struct floor *floor, int fd, uint8_t opcode, char *at, size_t size)
{
    if (opcode == 8) {
        answer(floor, fd, 8, at, size >= 2 ? 2 : 0);
        return false;
    }
    if (opcode == 9) answer(floor, fd, 10, at, size);
    struct peal_span text = {at, size};
    if (opcode != 1 || floor->socks[fd].group != NULL) return true;
    if (!peal_span_starts(text, "sub ") || size == 4 || size > 4 + NAME_BYTES_MAX) return true;
    group_join(floor, group_get(floor, peal_span_make(at + 4, size - 4)), fd);
    memcpy(at + 1, "ok ", 3);
    answer(floor, fd, 1, at + 1, size - 1);
    return true;
}

/* Handles the frame that `in` begins with. Returns its size, 0 when it is not complete, -1 when
 * the connection is over. */
static ssize_t frame_take(struct floor *floor, int fd, char *in, size_t size)
{
    if (size < 2) return 0;
    uint8_t opcode = (uint8_t)in[0] & 15;
    size_t length = (uint8_t)in[1] & 127;
    size_t head = 6;
    if (((uint8_t)in[1] & 128) == 0 || length == 127) return -1;
    if (length == 126) {
        if (size < 4) return 0;
        length = (size_t)(uint8_t)in[2] << 8 | (uint8_t)in[3];
        head = 8;
    }
    if (length > CARRY_BYTES_MAX - head) return -1;
    if (size < head + length) return 0;
    for (size_t i = 0; i < length; i++)
        in[head + i] ^= in[head - 4 + i % 4];
    if (!member_on_frame(floor, fd, opcode, in + head, length)) return -1;
    return (ssize_t)(head + length);
}

static void member_close(struct floor *floor, int fd)
{
    if (floor->socks[fd].rest == NULL) {
        sock_close(floor, fd);
        return;
    }
    group_leave(floor, fd);
    floor->socks[fd].closing = true;
    watch(floor, EPOLL_CTL_MOD, fd, EPOLLOUT);
}

static void member_on_readable(struct floor *floor, int fd)
{
    struct sock *sock = &floor->socks[fd];
    char input[CARRY_BYTES_MAX + 1];
    size_t have = sock->carry == NULL ? 0 : sock->carry->size;
    if (have > 0) memcpy(input, sock->carry->at, have);
    ssize_t got = recv(fd, input + have, CARRY_BYTES_MAX - have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { /* also when the carry is full and nothing more fits */
        sock_close(floor, fd);
        return;
    }
    char *at = input;
    size_t left = have + (size_t)got;
    ssize_t taken;
    do {
        taken = sock->kind == KIND_HEAD ? head_take(floor, fd, peal_span_make(at, left))
                                        : frame_take(floor, fd, at, left);
        if (taken < 0) {
            member_close(floor, fd);
            return;
        }
        at += taken;
        left -= (size_t)taken;
    } while (taken > 0);
    buf_drop(&sock->carry);
    if (left > 0) buf_keep(&sock->carry, at, left);
}

/* ---- The loop ----------------------------------------------------------------------------- */

static void door_on_readable(struct floor *floor, int door, enum kind kind)
{
    int fd;
    while ((fd = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        if ((uint32_t)fd >= floor->sock_max) {
            close(fd);
            continue;
        }
        floor->socks[fd] = (struct sock){.kind = (uint8_t)kind};
        bool quiet = kind == KIND_PUBLISHER && floor->paused;
        watch(floor, EPOLL_CTL_ADD, fd, quiet ? 0 : EPOLLIN);
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept4");
}

/* Publishers are few: all descriptors are walked only when the state changes. */
static void pause_publishers(struct floor *floor)
{
    bool pause = floor->rest_count > 0;
    if (pause == floor->paused) return;
    floor->paused = pause;
    for (uint32_t fd = 0; fd < floor->sock_max; fd++)
        if (floor->socks[fd].kind == KIND_PUBLISHER)
            watch(floor, EPOLL_CTL_MOD, (int)fd, pause ? 0 : EPOLLIN);
}

static void on_event(struct floor *floor, int fd, uint32_t events)
{
    switch ((enum kind)floor->socks[fd].kind) {
    case KIND_DOOR:
        door_on_readable(floor, fd, KIND_HEAD);
        return;
    case KIND_PUBDOOR:
        door_on_readable(floor, fd, KIND_PUBLISHER);
        return;
    case KIND_SIGNAL:
        floor->stop = true;
        return;
    case KIND_PUBLISHER:
        publisher_on_readable(floor, fd);
        return;
    case KIND_HEAD:
    case KIND_MEMBER:
        if (events & EPOLLOUT) sock_on_writable(floor, fd);
        if ((events & ~(uint32_t)EPOLLOUT) != 0 && floor->socks[fd].kind != KIND_NONE)
            member_on_readable(floor, fd);
        return;
    case KIND_NONE:
        return;
    }
}

static void run(struct floor *floor)
{
    static struct epoll_event events[EVENTS_MAX];
    while (!floor->stop) {
        int count = epoll_wait(floor->epoll, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++)
            on_event(floor, events[i].data.fd, events[i].events);
        flush_dirty(floor);
        pause_publishers(floor);
    }
}

static uint16_t door_open(struct floor *floor, uint16_t port, enum kind kind)
{
    int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    /* Accepted sockets inherit it. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, size) != 0) die("bind");
    if (listen(fd, 4096) != 0) die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) die("getsockname");
    floor->socks[fd].kind = (uint8_t)kind;
    watch(floor, EPOLL_CTL_ADD, fd, EPOLLIN);
    return ntohs(address.sin_port);
}

static void signals_open(struct floor *floor)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) die("signalfd");
    floor->socks[fd].kind = KIND_SIGNAL;
    watch(floor, EPOLL_CTL_ADD, fd, EPOLLIN);
}

static void floor_init(struct floor *floor)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) die("getrlimit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) die("setrlimit");
    floor->sock_max = files.rlim_cur > 1 << 20 ? 1 << 20 : (uint32_t)files.rlim_cur;
    floor->socks = calloc(floor->sock_max, sizeof(*floor->socks));
    floor->input = malloc(READ_BYTES);
    if (floor->socks == NULL || floor->input == NULL) die("memory");
    if (peal_map_init(&floor->groups) != PEAL_OK) die("memory");
    floor->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (floor->epoll < 0) die("epoll_create1");
}

static void floor_fini(struct floor *floor)
{
    for (uint32_t fd = 0; fd < floor->sock_max; fd++)
        if (floor->socks[fd].kind != KIND_NONE) sock_close(floor, (int)fd);
    struct peal_map_node *node = peal_map_next(&floor->groups, NULL);
    while (node != NULL) {
        struct group *group = PEAL_FROM_NODE(node, struct group, node);
        node = peal_map_next(&floor->groups, node);
        peal_map_remove(&floor->groups, &group->node);
        free(group->members);
        peal_buf_fini(&group->batch);
        free(group);
    }
    peal_map_fini(&floor->groups);
    free(floor->socks);
    free(floor->input);
    close(floor->epoll);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"publish-port", required_argument, NULL, 'q'},
                                            {"mode", required_argument, NULL, 'm'},
                                            {0}};
    struct floor floor = {0};
    uint16_t port = 0;
    uint16_t publish_port = 0;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool coal = option == 'm' && strcmp(optarg, "coal") == 0;
        if (option == 'p') {
            port = (uint16_t)strtoul(optarg, NULL, 10);
        } else if (option == 'q') {
            publish_port = (uint16_t)strtoul(optarg, NULL, 10);
        } else if (coal || (option == 'm' && strcmp(optarg, "send") == 0)) {
            floor.coal = coal;
        } else {
            fprintf(stderr, "usage: peal-floor [--port N] [--publish-port N] --mode send|coal\n");
            return 64;
        }
    }
    floor_init(&floor);
    signals_open(&floor);
    port = door_open(&floor, port, KIND_DOOR);
    publish_port = door_open(&floor, publish_port, KIND_PUBDOOR);
    printf("{\"port\":%u,\"publish_port\":%u}\n", port, publish_port);
    fflush(stdout);
    run(&floor);
    floor_fini(&floor);
    return 0;
}
