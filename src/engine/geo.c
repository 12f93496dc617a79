/* geo.c - points on the earth.
 *
 * The curve is Morton's (G. M. Morton, A computer oriented geodetic data base, 1966): latitude and longitude as 32-bit
 * fractions, their bits taken in turn. A square of the quadtree is one range of it, so a box is covered by the squares
 * that a walk from the root meets: those inside it whole, those at its edge until the ranges run out. */
#include "engine/geo.h"

#include <math.h>
#include <string.h>

#define EARTH_RADIUS 6371008.8 /* metres, mean radius R1 of IUGG */
#define RADIANS (3.14159265358979323846 / 180)

/* Squares looked at before the walk settles for what it has; half the ranges, for a split may add three. Arbitrary. */
#define LEVELS 20

static uint32_t fraction(double degrees, double low, double high)
{
    double part = (degrees - low) / (high - low) * 0x1p32;
    return part <= 0 ? 0 : part >= 0x1p32 - 1 ? UINT32_MAX : (uint32_t)part;
}

/* The bits of x at the even places. */
static uint64_t spread(uint32_t x)
{
    uint64_t v = x;
    v = (v | v << 16) & 0x0000ffff0000ffff;
    v = (v | v << 8) & 0x00ff00ff00ff00ff;
    v = (v | v << 4) & 0x0f0f0f0f0f0f0f0f;
    v = (v | v << 2) & 0x3333333333333333;
    return (v | v << 1) & 0x5555555555555555;
}

static uint64_t place(uint32_t lat, uint32_t lon)
{
    return spread(lat) << 1 | spread(lon);
}

void ki_point_pack(ki_point p, unsigned char out[KI_POINT_BYTES])
{
    uint64_t at = place(fraction(p.lat, -90, 90), fraction(p.lon, -180, 180));
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(at >> (56 - 8 * i));
    memcpy(out + 8, &p.lat, 8);
    memcpy(out + 16, &p.lon, 8);
}

ki_point ki_point_unpack(const unsigned char bytes[KI_POINT_BYTES])
{
    ki_point p;
    memcpy(&p.lat, bytes + 8, 8);
    memcpy(&p.lon, bytes + 16, 8);
    return p;
}

double ki_point_distance(ki_point a, ki_point b)
{
    double lat = sin((b.lat - a.lat) * RADIANS / 2), lon = sin((b.lon - a.lon) * RADIANS / 2);
    double h = lat * lat + cos(a.lat * RADIANS) * cos(b.lat * RADIANS) * lon * lon;
    return 2 * EARTH_RADIUS * asin(h < 1 ? sqrt(h) : 1);
}

int ki_box_has(ki_box box, ki_point p)
{
    if (p.lat < box.south || p.lat > box.north) return 0;
    return box.west <= box.east ? p.lon >= box.west && p.lon <= box.east
                                : p.lon >= box.west || p.lon <= box.east;
}

ki_box ki_box_around(ki_point p, double metres)
{
    /* A little more than needed, so that rounding leaves nothing out. */
    double angle = metres / EARTH_RADIUS * 1.000001 + 1e-12, lat = angle / RADIANS;
    ki_box box = {.south = p.lat - lat, .west = -180, .north = p.lat + lat, .east = 180};
    /* Near a pole every meridian is near. Elsewhere the widest parallel of the circle is not that of its middle. */
    double s = sin(angle), c = cos(p.lat * RADIANS);
    if (box.south > -90 && box.north < 90 && angle < 1.5 && s < c) {
        double lon = asin(s / c) / RADIANS;
        box.west = p.lon - lon < -180 ? p.lon - lon + 360 : p.lon - lon;
        box.east = p.lon + lon > 180 ? p.lon + lon - 360 : p.lon + lon;
        if (lon >= 180) box.west = -180, box.east = 180;
    }
    return box;
}

/* ---- Covering ---- */

typedef struct square {
    uint32_t lat, lon; /* of its corner */
    int level;         /* its side is 2^(32 - level) */
} square;

typedef struct cover {
    uint32_t south, west, north, east; /* fractions, west <= east */
} cover;

/* 0: apart, 1: in part, 2: the square lies within. */
static int overlap(const cover *c, square s)
{
    uint32_t side = s.level == 0 ? UINT32_MAX : (uint32_t)(((uint64_t)1 << (32 - s.level)) - 1);
    uint32_t lat = s.lat + side, lon = s.lon + side;
    if (s.lat > c->north || lat < c->south || s.lon > c->east || lon < c->west) return 0;
    return s.lat >= c->south && lat <= c->north && s.lon >= c->west && lon <= c->east ? 2 : 1;
}

static ki_curve_range range_of(square s)
{
    uint64_t first = place(s.lat, s.lon);
    uint64_t size = s.level == 0 ? 0 : (uint64_t)1 << (64 - 2 * s.level);
    return (ki_curve_range){first, first + size - 1};
}

/* Breadth first: all squares of a level are split before any of the next, so the bound on their number falls on the
 * finest ones. They stay in the order of the curve. */
static size_t cover_part(const cover *c, ki_curve_range *ranges, size_t most)
{
    square now[KI_BOX_RANGES] = {{0}}, next[4 * KI_BOX_RANGES];
    size_t n = 1;
    for (int level = 0; level < LEVELS; level++) {
        size_t m = 0, split = 0;
        for (size_t i = 0; i < n; i++) {
            if (overlap(c, now[i]) == 2) {
                next[m++] = now[i];
                continue;
            }
            split = 1;
            for (uint32_t quarter = 0; quarter < 4; quarter++) {
                int shift = 31 - now[i].level;
                square s = {now[i].lat + ((quarter >> 1) << shift), now[i].lon + ((quarter & 1) << shift),
                            now[i].level + 1};
                if (overlap(c, s)) next[m++] = s;
            }
        }
        if (!split || m > most) break;
        memcpy(now, next, m * sizeof *now);
        n = m;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        ki_curve_range r = range_of(now[i]);
        if (kept > 0 && ranges[kept - 1].last + 1 == r.first)
            ranges[kept - 1].last = r.last;
        else
            ranges[kept++] = r;
    }
    return kept;
}

static int by_first(const ki_curve_range *a, const ki_curve_range *b)
{
    return a->first > b->first;
}

size_t ki_box_cover(ki_box box, ki_curve_range ranges[KI_BOX_RANGES])
{
    cover c = {fraction(box.south, -90, 90), fraction(box.west, -180, 180), fraction(box.north, -90, 90),
               fraction(box.east, -180, 180)};
    if (box.west <= box.east) return cover_part(&c, ranges, KI_BOX_RANGES);
    cover east = c, west = c; /* two boxes, on both sides of the date line */
    east.west = 0;
    west.east = UINT32_MAX;
    size_t n = cover_part(&east, ranges, KI_BOX_RANGES / 2);
    n += cover_part(&west, ranges + n, KI_BOX_RANGES / 2);
    for (size_t i = 1; i < n; i++) /* the two interleave along the curve */
        for (size_t j = i; j > 0 && by_first(&ranges[j - 1], &ranges[j]); j--) {
            ki_curve_range swap = ranges[j];
            ranges[j] = ranges[j - 1];
            ranges[j - 1] = swap;
        }
    return n;
}
