/* The folder walk: what is found, in which order, and what cannot lead it astray. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gallery/walk.h"

static char root[512];

/* Make a file, and the folders above it. */
static void make(const char *path)
{
    char full[1024], *slash;
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(full, 0777);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs("x", file);
    fclose(file);
}

static void make_link(const char *target, const char *path)
{
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", root, path);
    assert_int_equal(symlink(target, full), 0);
}

static int fresh_root(void **state)
{
    (void)state;
    static int count;
    snprintf(root, sizeof root, "%s/walk%d", test_folder(), count++);
    return mkdir(root, 0777);
}

/* All paths of a walk, with '|' between. */
static const char *walk_all(const ki_walk_options *options)
{
    static char text[4096];
    ki_walk walk;
    kith_error err;
    text[0] = 0;
    assert_ok(ki_walk_folder(root, options, NULL, NULL, &walk, &err), &err);
    for (size_t i = 0; i < walk.n; i++) {
        strcat(text, walk.files[i].path);
        strcat(text, walk.files[i].unsure ? "?|" : "|");
        assert_true(walk.files[i].size == 1);
        assert_true(walk.files[i].mtime_ns > 0);
    }
    ki_walk_clear(&walk);
    return text;
}

static void names_tell_pictures(void **state)
{
    (void)state;
    assert_int_equal(ki_walk_is_picture("a.jpg"), 1);
    assert_int_equal(ki_walk_is_picture("A.JPEG"), 1);
    assert_int_equal(ki_walk_is_picture("a.b.TiF"), 1);
    assert_int_equal(ki_walk_is_picture("a.webp"), 1);
    assert_int_equal(ki_walk_is_picture("a.jpg.txt"), 0);
    assert_int_equal(ki_walk_is_picture("a.svg"), 0);
    assert_int_equal(ki_walk_is_picture("IMG_0001"), -1);
    assert_int_equal(ki_walk_is_picture(".jpg"), -1);
}

static void finds_pictures_in_order(void **state)
{
    (void)state;
    make("z.jpg");
    make("b/2.png");
    make("b/10.png");
    make("b.gif");
    make("a/deep/er/x.WEBP");
    make("notes.txt");
    make("scan");
    make(".hidden.jpg");
    make(".git/pic.jpg");
    ki_walk_options options = {0};
    assert_string_equal(walk_all(&options), "a/deep/er/x.WEBP|b.gif|b/10.png|b/2.png|scan?|z.jpg|");
    options.hidden = 1;
    assert_string_equal(walk_all(&options),
                        ".git/pic.jpg|.hidden.jpg|a/deep/er/x.WEBP|b.gif|b/10.png|b/2.png|scan?|z.jpg|");
}

static void excludes_by_name_and_by_path(void **state)
{
    (void)state;
    make("a/thumbs/1.jpg");
    make("a/keep/1.jpg");
    make("b/keep/1.jpg");
    make("b/2.gif");
    const char *by_name[] = {"thumbs", "*.gif"};
    ki_walk_options options = {.exclude = by_name, .n_exclude = 2};
    assert_string_equal(walk_all(&options), "a/keep/1.jpg|b/keep/1.jpg|");
    const char *by_path[] = {"a/keep", "/b/2.*"};
    options.exclude = by_path;
    assert_string_equal(walk_all(&options), "a/thumbs/1.jpg|b/keep/1.jpg|");
    assert_true(ki_walk_excluded(&options, "a/keep/1.jpg"));
    assert_false(ki_walk_excluded(&options, "b/keep/1.jpg"));
    assert_true(ki_walk_excluded(&options, "b/.cache/1.jpg"));
}

static void links_do_not_loop(void **state)
{
    (void)state;
    make("real/1.jpg");
    make_link("..", "real/up");
    make_link("real", "alias"); /* sorts before "real", and must not give its name */
    make_link("loop2", "loop1");
    make_link("loop1", "loop2");
    make_link("nowhere", "dead.jpg");
    make_link("self.jpg", "self.jpg");
    make_link("real/1.jpg", "copy.jpg");
    ki_walk_options options = {0};
    assert_string_equal(walk_all(&options), "copy.jpg|real/1.jpg|");
}

static void links_lead_outside(void **state)
{
    (void)state;
    char outside[1024], target[1100];
    snprintf(outside, sizeof outside, "%s-outside", root);
    assert_int_equal(mkdir(outside, 0777), 0);
    snprintf(target, sizeof target, "%s/o.jpg", outside);
    close(open(target, O_CREAT | O_WRONLY, 0666));
    assert_int_equal(truncate(target, 1), 0);
    make("1.jpg");
    make_link(outside, "zz");
    make_link(outside, "yy");
    ki_walk_options options = {0};
    assert_string_equal(walk_all(&options), "1.jpg|yy/o.jpg|");
}

static void names_are_bytes(void **state)
{
    (void)state;
    make("caf\xe9.jpg"); /* Latin-1 */
    make("new\nline.jpg");
    make("quote\".jpg");
    ki_walk_options options = {0};
    assert_string_equal(walk_all(&options), "caf\xe9.jpg|new\nline.jpg|quote\".jpg|");
}

static void other_files_are_no_pictures(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/pipe.jpg", root);
    assert_int_equal(mkfifo(path, 0666), 0);
    snprintf(path, sizeof path, "%s/folder.jpg", root);
    assert_int_equal(mkdir(path, 0777), 0);
    make("folder.jpg/1.jpg");
    ki_walk_options options = {0};
    assert_string_equal(walk_all(&options), "folder.jpg/1.jpg|");
}

static void a_folder_that_cannot_be_read_is_a_fault(void **state)
{
    (void)state;
    make("shut/1.jpg");
    make("shut/in/2.jpg");
    make("shutter/3.jpg");
    char path[1024];
    snprintf(path, sizeof path, "%s/shut", root);
    chmod(path, 0);
    /* Root reads everything: be somebody else for a while. */
    int is_root = geteuid() == 0;
    if (is_root) assert_int_equal(chmod(test_folder(), 0755) | seteuid(65534), 0);
    ki_walk walk;
    kith_error err;
    ki_walk_options options = {0};
    kith_status status = ki_walk_folder(root, &options, NULL, NULL, &walk, &err);
    if (is_root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(status, KITH_OK);
    assert_int_equal(walk.n, 1);
    assert_int_equal(walk.n_faults, 1);
    assert_string_equal(walk.faults[0].path, "shut");
    assert_int_equal(walk.faults[0].sys_errno, EACCES);
    ki_walk_clear(&walk);
    chmod(path, 0777);
}

static void what_is_below_a_fault_is_unknown(void **state)
{
    (void)state;
    ki_walk_fault faults[] = {{"a/b", EACCES}};
    ki_walk walk = {.faults = faults, .n_faults = 1};
    assert_true(ki_walk_unknown(&walk, "a/b/c/d.jpg"));
    assert_true(ki_walk_unknown(&walk, "a/b"));
    assert_false(ki_walk_unknown(&walk, "a/bc.jpg"));
    assert_false(ki_walk_unknown(&walk, "a/a.jpg"));
}

static void a_missing_root_is_an_error(void **state)
{
    (void)state;
    ki_walk walk;
    kith_error err;
    ki_walk_options options = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/none", root);
    assert_int_equal(ki_walk_folder(path, &options, NULL, NULL, &walk, &err), KITH_NOTFOUND);
    assert_int_equal(walk.n, 0);
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    assert_int_equal(ki_walk_folder(root, &options, &run, NULL, &walk, &err), KITH_CANCELLED);
}

/* Every allocation fails once; nothing leaks. */
static void running_out_of_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d/%d.jpg", i % 20, i);
        make(name);
    }
    make_link("0", "link");
    kith_status status = KITH_NOMEM;
    for (size_t fail_at = 0; status == KITH_NOMEM; fail_at++) {
        test_allocator allocator;
        test_allocator_init(&allocator, fail_at, 0);
        ki_walk walk;
        kith_error err;
        ki_walk_options options = {0};
        status = ki_walk_folder(root, &options, NULL, &allocator.base, &walk, &err);
        if (status == KITH_OK) assert_int_equal(walk.n, 40);
        ki_walk_clear(&walk);
        assert_int_equal(allocator.live, 0);
    }
    assert_int_equal(status, KITH_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_tell_pictures),
        cmocka_unit_test_setup(finds_pictures_in_order, fresh_root),
        cmocka_unit_test_setup(excludes_by_name_and_by_path, fresh_root),
        cmocka_unit_test_setup(links_do_not_loop, fresh_root),
        cmocka_unit_test_setup(links_lead_outside, fresh_root),
        cmocka_unit_test_setup(names_are_bytes, fresh_root),
        cmocka_unit_test_setup(other_files_are_no_pictures, fresh_root),
        cmocka_unit_test_setup(a_folder_that_cannot_be_read_is_a_fault, fresh_root),
        cmocka_unit_test(what_is_below_a_fault_is_unknown),
        cmocka_unit_test_setup(a_missing_root_is_an_error, fresh_root),
        cmocka_unit_test_setup(running_out_of_memory, fresh_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
