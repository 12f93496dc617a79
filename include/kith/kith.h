/* kith.h - all of libkith: vectors, clustering, quantisation, indexes. The libraries above it have headers of
 * their own: kith/hdf5.h, kith/collection.h, kith/image.h, kith/gallery.h. */
#ifndef KITH_KITH_H
#define KITH_KITH_H

#include <kith/allocator.h>
#include <kith/api.h>
#include <kith/dataset.h>
#include <kith/file.h>
#include <kith/filter.h>
#include <kith/hashing.h>
#include <kith/index.h>
#include <kith/io.h>
#include <kith/iterate.h>
#include <kith/kmeans.h>
#include <kith/knng.h>
#include <kith/metric.h>
#include <kith/minhash.h>
#include <kith/pca.h>
#include <kith/pq.h>
#include <kith/run.h>
#include <kith/sets.h>
#include <kith/simd.h>
#include <kith/simhash.h>
#include <kith/status.h>
#include <kith/tune.h>
#include <kith/version.h>

#endif
