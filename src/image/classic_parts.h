/* classic_parts.h - shared by classic.c and classic_train.c only. */
#ifndef KI_IMAGE_CLASSIC_PARTS_H
#define KI_IMAGE_CLASSIC_PARTS_H

#include "image/classic.h"

/* The number of floats that are learnt, and the pointers into classic->block, set from block and dim. */
size_t ki_classic_floats(size_t dim);
void ki_classic_lay_out(ki_classic *classic);

/* The weighted parts, before the projection: joint[KI_JOINT_DIM]. Needs only the codebooks. */
void ki_classic_join(const ki_classic *classic, const ki_local *local, float *joint);

#endif
