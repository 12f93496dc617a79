/* cli_run.c - how a verb runs: signals that cancel, the threads, the progress line. */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* The one global of the program: a signal handler has no argument to carry it. */
static kith_cancel cancel;

struct cli_progress {
    int line_shown; /* there is something on the terminal's line to be erased */
    char stage[64];
    uint64_t first_done; /* of this stage, at begun: what a resumed operation had already */
    double begun, shown_at;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_signal(int number)
{
    (void)number;
    kith_cancel_raise(&cancel);
}

bool cli_cancelled(const cli_context *cli)
{
    (void)cli;
    return kith_cancel_raised(&cancel) != 0;
}

static void seconds_text(double seconds, char *text, size_t size)
{
    unsigned long s = (unsigned long)(seconds + 0.5);
    if (s < 3600)
        snprintf(text, size, "%lu:%02lu", s / 60, s % 60);
    else
        snprintf(text, size, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
}

static unsigned terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
    return size.ws_col;
}

static void show_progress(void *ctx, const char *stage, uint64_t done, uint64_t total)
{
    struct cli_progress *p = ctx;
    double t = now();
    if (strncmp(p->stage, stage, sizeof p->stage - 1) != 0 || done < p->first_done) {
        snprintf(p->stage, sizeof p->stage, "%s", stage);
        p->first_done = done;
        p->begun = t;
        p->shown_at = 0;
    }
    if (t - p->shown_at < 0.1 && done != total) return;
    p->shown_at = t;
    double elapsed = t - p->begun;
    double rate = elapsed > 0 ? (double)(done - p->first_done) / elapsed : 0;
    char line[256];
    size_t used = (size_t)snprintf(line, sizeof line, "%s %s", p->stage, cli_thousands(done));
    if (total)
        used += (size_t)snprintf(line + used, sizeof line - used, " of %s (%.0f %%)", cli_thousands(total),
                                 100.0 * (double)done / (double)total);
    if (elapsed > 0.5 && rate > 0)
        used += (size_t)snprintf(line + used, sizeof line - used, rate < 100 ? ", %.1f/s" : ", %.0f/s", rate);
    if (elapsed > 2 && rate > 0 && total > done) {
        char left[32];
        seconds_text((double)(total - done) / rate, left, sizeof left);
        snprintf(line + used, sizeof line - used, ", %s left", left);
    }
    fprintf(stderr, "\r%.*s\033[K", (int)terminal_width() - 1, line);
    fflush(stderr);
    p->line_shown = 1;
}

void cli_progress_clear(cli_context *cli)
{
    if (!cli->progress || !cli->progress->line_shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    cli->progress->line_shown = 0;
}

int cli_run_init(cli_context *cli)
{
    /* The first signal asks politely; SA_RESETHAND lets the second one end the process. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    cli->run.cancel = &cancel;
    if (!cli->quiet && isatty(STDERR_FILENO)) {
        cli->progress = calloc(1, sizeof *cli->progress);
        if (!cli->progress) return cli_fail(cli, NULL, "out of memory");
        cli->run.progress = show_progress;
        cli->run.progress_ctx = cli->progress;
    }
    if (!(cli->verb->common & CLI_THREADS) || cli->threads == 1) return CLI_OK;
    kith_error err;
    if (kith_pool_create(cli->threads, NULL, &cli->run.pool, &err) != KITH_OK)
        return cli_fail_error(cli, "--threads", &err);
    return CLI_OK;
}

void cli_run_clear(cli_context *cli)
{
    kith_pool_free(cli->run.pool);
    cli->run.pool = NULL;
    cli_progress_clear(cli);
    free(cli->progress);
    cli->progress = NULL;
}

size_t cli_threads(const cli_context *cli)
{
    return kith_pool_threads(cli->run.pool);
}
