/* server.c - listening, starting, stopping. */
#include "../common/fail.h"
#include "milvus.h"
#include "server_state.h"
#include "memory.h"
#include "tls.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    DRAIN_SECONDS = 10,
    WRITERS = 16 /* threads that write rows; arbitrary: so many may share a commit */
};

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t server_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t server_thread_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- Starting and stopping ---- */

static int is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* A listening socket, so that what fails can be named. */
static kith_status listen_at(server *s, const struct addrinfo *info, kith_error *err)
{
    const server_options *o = &s->options;
    if (!is_loopback(info->ai_addr) && s->tokens.n == 0)
        return common_fail(err, KITH_INVALID, "%s is not of this machine alone: that needs --token-file",
                           o->host);
    s->listening = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (s->listening < 0 || setsockopt(s->listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(s->listening, info->ai_addr, info->ai_addrlen) != 0 || listen(s->listening, 128) != 0)
        return common_fail(err, errno == EADDRINUSE ? KITH_BUSY : KITH_IO, "%s port %u: %s%s", o->host,
                           o->port, strerror(errno),
                           errno == EADDRINUSE ? "; --port 0 takes one that is free" : "");
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(s->listening, (struct sockaddr *)&bound, &size) != 0)
        return common_fail(err, KITH_IO, "%s: %s", o->host, strerror(errno));
    s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                : ((struct sockaddr_in *)&bound)->sin_port);
    return KITH_OK;
}

static kith_status open_socket(server *s, kith_error *err)
{
    char port[8];
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    snprintf(port, sizeof port, "%u", s->options.port);
    int code = getaddrinfo(s->options.host, port, &wanted, &found);
    if (code != 0) return common_fail(err, KITH_INVALID, "%s: %s", s->options.host, gai_strerror(code));
    kith_status status = listen_at(s, found, err);
    freeaddrinfo(found);
    return status;
}

/* What the library says about itself is passed on; what it says about clients the access log and their answers do. */
static void on_library_message(void *ctx, const char *format, va_list args)
{
    (void)ctx;
    if (strstr(format, "MHD_")) vfprintf(stderr, format, args);
}

/* A connection is a file descriptor, a collection some more. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static kith_status start_daemon(server *s, kith_error *err)
{
    const server_options *o = &s->options;
    unsigned tls = o->certificate ? MHD_USE_TLS : 0;
    /* TLS 1.0 and 1.1 are deprecated (RFC 8996). */
    static char priorities[] = "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1";
    struct MHD_OptionItem secure[] = {{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)&tls_choose},
                                      {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
                                      {MHD_OPTION_END, 0, NULL}};
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | tls, 0, NULL, NULL,
        exchange_on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_library_message, NULL, MHD_OPTION_ARRAY,
        tls ? secure : secure + 2, MHD_OPTION_LISTEN_SOCKET, s->listening, MHD_OPTION_THREAD_POOL_SIZE,
        o->threads, MHD_OPTION_CONNECTION_LIMIT, 2 * o->connections + 8 * o->threads,
        MHD_OPTION_CONNECTION_TIMEOUT, o->idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        o->max_head + SERVER_ANSWER_ROOM, MHD_OPTION_NOTIFY_COMPLETED, exchange_on_completed, s,
        MHD_OPTION_URI_LOG_CALLBACK, exchange_on_target, s, MHD_OPTION_NOTIFY_CONNECTION,
        exchange_on_connection, s, MHD_OPTION_UNESCAPE_CALLBACK, exchange_unescape, s, MHD_OPTION_END);
    return s->daemon ? KITH_OK : common_fail(err, KITH_INTERNAL, "the HTTP threads cannot be started");
}

kith_status server_start(const server_options *options, server **out, kith_error *err)
{
    *out = NULL;
    server *s = calloc(1, sizeof *s);
    if (!s) return common_fail(err, KITH_NOMEM, "out of memory");
    s->options = *options;
    s->listening = -1;
    allow_descriptors();
    memory_bound();
    pthread_mutex_init(&s->log_lock, NULL);
    if (getrandom(&s->salt, sizeof s->salt, 0) != sizeof s->salt) s->salt = server_now_ns();
    kith_status status = options->token_file ? tokens_load(options->token_file, &s->tokens, err) : KITH_OK;
    if (status == KITH_OK && options->certificate) status = tls_load(options->certificate, options->key, err);
    if (status == KITH_OK) status = open_socket(s, err);
    /* Each thread and each worker has at most one loan, so nobody waits for a handle to read. */
    shelf_options how = {options->path, 2 * (size_t)options->threads, options->max_megapixels};
    if (status == KITH_OK) status = shelf_open(&how, &s->shelf, err);
    if (status == KITH_OK) status = milvus_open(shelf_folder(s->shelf), &s->milvus, err);
    if (status == KITH_OK) status = work_start(options->threads, &s->work, err);
    if (status == KITH_OK) status = work_start(WRITERS, &s->writing, err);
    if (status == KITH_OK) status = jobs_start(s, &s->jobs, err);
    if (status == KITH_OK) status = watch_start(options, &s->watch, err);
    if (status == KITH_OK) status = start_daemon(s, err);
    if (status == KITH_OK)
        *out = s;
    else
        server_stop(s);
    return status;
}

void server_stop(server *s)
{
    if (!s) return;
    if (s->daemon) {
        (void)MHD_quiesce_daemon(s->daemon);
        for (int i = 0; i < DRAIN_SECONDS * 100 && atomic_load(&s->running) > 0; i++)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    /* Whatever waits gives up, and no connection is left suspended, as the library demands. */
    atomic_store(&s->stopping, 1);
    jobs_stop(s->jobs);
    work_stop(s->work);
    work_stop(s->writing);
    if (s->daemon)
        MHD_stop_daemon(s->daemon); /* until then requests may come to the queues, which refuse them */
    work_free(s->work);
    work_free(s->writing);
    watch_stop(s->watch);
    jobs_free(s->jobs);
    if (s->listening >= 0) close(s->listening);
    milvus_close(s->milvus);
    shelf_close(s->shelf);
    tokens_clear(&s->tokens);
    tls_clear();
    pthread_mutex_destroy(&s->log_lock);
    free(s);
}

kith_status server_reload(server *s, kith_error *err)
{
    return s->options.certificate ? tls_load(s->options.certificate, s->options.key, err) : KITH_OK;
}

uint16_t server_port(const server *s)
{
    return s->port;
}

size_t server_collections(server *s)
{
    return shelf_size(s->shelf);
}

kith_status server_make_token(const char *word, char digits[33], char line[80], kith_error *err)
{
    if (role_of(word) == ROLE_NONE)
        return common_fail(err, KITH_INVALID, "a role is read, write or admin, not '%s'", word);
    return tokens_make(role_of(word), digits, line, err);
}
