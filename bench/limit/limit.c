/* The limit: what a FastCGI server on Linux cannot be cheaper than.
 *
 * One thread, one epoll. It reads, finds where records end, and writes a canned response when the
 * empty STDIN record of a request has arrived. It parses no parameters, stores no request, checks
 * nothing, and makes as few system calls as possible: epoll_wait, read, write for a request on a
 * keep-alive connection; epoll_wait, accept, read, write, close for one on a new connection.
 * All responses to what one read returned are sent in one write.
 *
 * Started with the listening socket as descriptor 0 (FastCGI 1.0, section 2.2). Stopped by SIGTERM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENER = 0, EVENTS = 256, READ_BYTES = 64 * 1024, MOST_ANSWERS = 64 };
enum { BEGIN_REQUEST = 1, STDIN = 5 };

struct connection {
    int fd;
    int watched;
    int keep;
    /* Bytes of the current record still to come; of the header while that is incomplete. */
    uint32_t left;
    uint32_t header_bytes;
    /* Bytes of the current BEGIN_REQUEST body seen so far; more than 8 otherwise. */
    uint32_t body_bytes;
    unsigned char header[8];
};

static unsigned char input[READ_BYTES];
static unsigned char answer[128];
static size_t answer_bytes;
static unsigned char output[MOST_ANSWERS * 128];
static size_t output_bytes;

static void put_record(unsigned char type, const void *content, uint16_t bytes)
{
    unsigned char header[8] = {1, type, 0, 1, bytes >> 8, bytes & 0xff, 0, 0};
    memcpy(answer + answer_bytes, header, 8);
    memcpy(answer + answer_bytes + 8, content, bytes);
    answer_bytes += 8 + bytes;
}

static void make_answer(void)
{
    static const char text[] =
        "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nHello, world!\n";
    unsigned char end[8] = {0};
    put_record(6, text, sizeof text - 1);
    put_record(6, "", 0);
    put_record(3, end, 8);
}

static int write_all(int fd)
{
    size_t written = 0;
    while (written < output_bytes) {
        ssize_t count = write(fd, output + written, output_bytes - written);
        if (count < 0) {
            if (errno == EAGAIN || errno == EINTR)
                continue; /* Responses are small: they fit into the socket's buffer. */
            return -1;
        }
        written += (size_t)count;
    }
    output_bytes = 0;
    return 0;
}

/* Queues the response, with the request's id. */
static int put_answer(int fd, unsigned char high, unsigned char low)
{
    if (output_bytes + answer_bytes > sizeof output && write_all(fd) < 0)
        return -1;
    unsigned char *at = output + output_bytes;
    memcpy(at, answer, answer_bytes);
    size_t record = 0;
    while (record < answer_bytes) {
        at[record + 2] = high;
        at[record + 3] = low;
        record += 8 + ((size_t)at[record + 4] << 8 | at[record + 5]);
    }
    output_bytes += answer_bytes;
    return 0;
}

/* Scans what was read. Returns whether a request is complete, or -1. */
static int take(struct connection *it, size_t bytes)
{
    int complete = 0;
    size_t at = 0;
    while (at < bytes) {
        if (it->left > 0) {
            size_t count = bytes - at < it->left ? bytes - at : it->left;
            /* The third byte of BEGIN_REQUEST's body holds the flags. */
            if (it->header[1] == BEGIN_REQUEST && it->body_bytes <= 2 && it->body_bytes + count > 2)
                it->keep = input[at + 2 - it->body_bytes] & 1;
            it->body_bytes += count;
            it->left -= count;
            at += count;
            continue;
        }
        size_t count = 8 - it->header_bytes;
        if (count > bytes - at)
            count = bytes - at;
        memcpy(it->header + it->header_bytes, input + at, count);
        it->header_bytes += count;
        at += count;
        if (it->header_bytes < 8)
            break;
        it->header_bytes = 0;
        it->body_bytes = 0;
        uint32_t content = (uint32_t)it->header[4] << 8 | it->header[5];
        it->left = content + it->header[6];
        if (it->header[1] == STDIN && content == 0) {
            if (put_answer(it->fd, it->header[2], it->header[3]) < 0)
                return -1;
            complete = 1;
        }
    }
    return complete;
}

static void end(struct connection *it)
{
    close(it->fd);
    free(it);
}

static void serve(int epoll, struct connection *it)
{
    for (;;) {
        ssize_t count = read(it->fd, input, sizeof input);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno == EAGAIN)
            break;
        if (count <= 0) {
            end(it);
            return;
        }
        int complete = take(it, (size_t)count);
        if (complete < 0 || write_all(it->fd) < 0 || (complete && !it->keep)) {
            end(it);
            return;
        }
        if ((size_t)count < sizeof input)
            break;
    }
    if (!it->watched) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = it};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, it->fd, &event) < 0) {
            end(it);
            return;
        }
        it->watched = 1;
    }
}

int main(void)
{
    make_answer();
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, LISTENER, &event) < 0) {
        perror("limit: descriptor 0 is not a listening socket");
        return 1;
    }
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct connection *it = events[i].data.ptr;
            if (it == NULL) {
                int fd = accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                it = calloc(1, sizeof *it);
                if (it == NULL)
                    return 1;
                it->fd = fd;
            }
            serve(epoll, it);
        }
    }
}
