/* cli_options.h - the options that verbs over vector files have in common, so that they have one name, one range and
 * one sentence. Each is an entry of a cli_option table and fills the member of `struct options` of that name. */
#ifndef KITH_CLI_OPTIONS_H
#define KITH_CLI_OPTIONS_H

#include "cli.h"

/* clang-format off */

/* The plain kinds: a text, one with a default, one of some words, a list of texts, a flag, of the member of that name. */
#define CLI_OPTION_TEXT(member, called, shown, says) \
    {.name = called, .kind = CLI_TEXT, .argument = shown, .into = offsetof(struct options, member), .help = says}
#define CLI_OPTION_USUAL(member, called, shown, usual, says) \
    {.name = called, .kind = CLI_TEXT, .argument = shown, .fallback = usual, \
     .into = offsetof(struct options, member), .help = says}
#define CLI_OPTION_CHOICE(member, called, shown, usual, words, says) \
    {.name = called, .kind = CLI_TEXT, .argument = shown, .fallback = usual, .choices = words, \
     .into = offsetof(struct options, member), .help = says}
#define CLI_OPTION_LIST(member, called, shown, says) \
    {.name = called, .kind = CLI_LIST, .argument = shown, .into = offsetof(struct options, member), .help = says}
#define CLI_OPTION_FLAG(member, called, says) \
    {.name = called, .kind = CLI_FLAG, .into = offsetof(struct options, member), .help = says}

/* A whole number and a number from `least` to `most`; 0 and 0 are no limits. */
#define CLI_OPTION_COUNT(member, called, shown, usual, least, most, says) \
    {.name = called, .kind = CLI_COUNT, .argument = shown, .fallback = usual, .low = least, .high = most, \
     .into = offsetof(struct options, member), .help = says}
#define CLI_OPTION_NUMBER(member, called, shown, usual, least, most, says) \
    {.name = called, .kind = CLI_NUMBER, .argument = shown, .fallback = usual, .low = least, .high = most, \
     .into = offsetof(struct options, member), .help = says}

#define CLI_OPTION_METRIC \
    {.name = "metric", .letter = 'm', .kind = CLI_TEXT, .argument = "METRIC", .fallback = "l2", \
     .choices = CLI_METRICS, .into = offsetof(struct options, metric), .help = "the distance"}

#define CLI_OPTION_NEIGHBOURS(usual, most, says) \
    {.name = "neighbours", .letter = 'k', .kind = CLI_COUNT, .argument = "K", .fallback = usual, .low = 1, \
     .high = most, .into = offsetof(struct options, k), .help = says}

#define CLI_OPTION_SEED(says) \
    {.name = "seed", .kind = CLI_COUNT, .argument = "N", .fallback = "1", \
     .into = offsetof(struct options, seed), .help = says}

#define CLI_OPTION_SET(says) \
    {.name = "set", .kind = CLI_LIST, .argument = "NAME=VALUE,...", .into = offsetof(struct options, set), \
     .help = says}

#define CLI_OPTION_OUTPUT(says) \
    {.name = "output", .letter = 'o', .kind = CLI_TEXT, .argument = "FILE", \
     .into = offsetof(struct options, output), .help = says}

#define CLI_OPTION_LIMIT \
    {.name = "limit", .kind = CLI_COUNT, .argument = "N", .into = offsetof(struct options, limit), \
     .help = "take the first N rows of BASE only; 0 means all"}
/* clang-format on */

#endif
