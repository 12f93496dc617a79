/* timestamp.c - RFC 3339, and its date alone. */
#include "engine/timestamp.h"

typedef struct reader {
    const char *at, *end;
} reader;

/* Exactly `digits` digits. */
static int number(reader *r, int digits, int low, int high, int *value)
{
    *value = 0;
    if (r->end - r->at < digits) return 0;
    for (int i = 0; i < digits; i++, r->at++) {
        if (*r->at < '0' || *r->at > '9') return 0;
        *value = *value * 10 + (*r->at - '0');
    }
    return *value >= low && *value <= high;
}

static int sign(reader *r, char a, char b)
{
    if (r->at >= r->end || (*r->at != a && *r->at != b)) return 0;
    r->at++;
    return 1;
}

/* Days since 1970-01-01, of a day of the Gregorian calendar. Years begin in March here, so that the day that leap years
 * add is their last. */
static int64_t days(int year, int month, int day)
{
    int64_t y = year - (month <= 2), m = (month + 9) % 12;
    int64_t leaps = y / 4 - y / 100 + y / 400;
    return 365 * y + leaps + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int days_of(int year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return lengths[month - 1] + (month == 2 && leap);
}

static int read_zone(reader *r, int64_t *seconds)
{
    int hours, minutes;
    if (r->at == r->end || sign(r, 'Z', 'z')) return r->at == r->end;
    int64_t east = *r->at == '+' ? 1 : -1;
    if (!sign(r, '+', '-') || !number(r, 2, 0, 23, &hours) || !sign(r, ':', ':') ||
        !number(r, 2, 0, 59, &minutes))
        return 0;
    *seconds -= east * (hours * 3600 + minutes * 60);
    return r->at == r->end;
}

int ki_timestamp_parse(const char *text, size_t size, int64_t *seconds, double *fraction)
{
    reader r = {text, text + size};
    int year, month, day, hour, minute, second = 0;
    *fraction = 0;
    if (!number(&r, 4, 1, 9999, &year) || !sign(&r, '-', '-') || !number(&r, 2, 1, 12, &month) ||
        !sign(&r, '-', '-') || !number(&r, 2, 1, days_of(year, month), &day))
        return 0;
    *seconds = days(year, month, day) * 86400;
    if (r.at == r.end) return 1;
    if (!(sign(&r, 'T', 't') || sign(&r, ' ', ' ')) || !number(&r, 2, 0, 23, &hour) || !sign(&r, ':', ':') ||
        !number(&r, 2, 0, 59, &minute))
        return 0;
    if (sign(&r, ':', ':') && !number(&r, 2, 0, 60, &second)) return 0; /* 60: a leap second */
    *seconds += hour * 3600 + minute * 60 + second;
    if (sign(&r, '.', ',')) {
        double unit = 0.1;
        if (r.at == r.end || *r.at < '0' || *r.at > '9') return 0;
        for (; r.at < r.end && *r.at >= '0' && *r.at <= '9'; r.at++, unit /= 10)
            *fraction += (*r.at - '0') * unit;
    }
    return read_zone(&r, seconds);
}
