/* geo.h - points on the earth: distances, and an order along a curve in which near points stand near each other. */
#ifndef KI_ENGINE_GEO_H
#define KI_ENGINE_GEO_H

#include <stddef.h>
#include <stdint.h>

/* Degrees; latitude -90..90, longitude -180..180. */
typedef struct ki_point {
    double lat, lon;
} ki_point;

/* As a field's value: the place on the curve (big-endian, so that memcmp orders by it), then the point itself. */
#define KI_POINT_BYTES 24
void ki_point_pack(ki_point p, unsigned char out[KI_POINT_BYTES]);
ki_point ki_point_unpack(const unsigned char bytes[KI_POINT_BYTES]);

/* Metres along a great circle of a sphere of 6,371,008.8 m (the mean radius): the haversine formula. */
double ki_point_distance(ki_point a, ki_point b);

typedef struct ki_box {
    double south, west, north, east; /* west > east: across the date line */
} ki_box;

int ki_box_has(ki_box box, ki_point p);

/* The box around all points within `metres` of p. */
ki_box ki_box_around(ki_point p, double metres);

/* Places on the curve from first to last, both included. */
typedef struct ki_curve_range {
    uint64_t first, last;
} ki_curve_range;

/* Ranges that hold every point of a box, and some around it, ascending. */
#define KI_BOX_RANGES 64
size_t ki_box_cover(ki_box box, ki_curve_range ranges[KI_BOX_RANGES]);

#endif
