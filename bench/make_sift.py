#!/usr/bin/env python3
"""Make a large set of SIFT descriptors from a folder of photographs, for bench/streamed.

usage: make_sift.py PHOTOS OUTDIR [ROWS]        (10,000,000 rows: about 50 minutes of one processor, 1.3 GB)

Every photo is described at several scales and in overlapping crops, mirrored too, until there are enough; equal descriptors
are kept once within a photo. Written as they come, so that memory holds one photo's: OUTDIR/base.bvecs, and
query.bvecs from photos that the base does not use (every 50th). photos.tsv says how many rows each photo gave: with it a second
call goes on where the first was stopped. Packages: python3-opencv, python3-numpy.
"""
import os
import sys

import cv2
import numpy as np

QUERIES = 10000
SCALES = (640, 1000, 480, 800, 360, 560, 900, 420, 720, 520, 600)  # the longer side, pixels
CROPS = ((0.0, 0.0), (0.25, 0.25), (0.0, 0.25), (0.25, 0.0))  # where three quarters of the photo begin


def views(image):
    """The photo at each scale, whole, then cropped, then mirrored."""
    height, width = image.shape
    for mirrored in (False, True):
        for side in SCALES:
            factor = side / max(height, width)
            scaled = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            if mirrored:
                scaled = cv2.flip(scaled, 1)
            yield scaled
            h, w = scaled.shape
            for top, left in CROPS:
                yield np.ascontiguousarray(scaled[int(top * h):int((top + 0.75) * h), int(left * w):int((left + 0.75) * w)])


def descriptors(sift, path, most):
    """At most `most` different descriptors of a photo, in a fixed order."""
    image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if image is None:
        return np.zeros((0, 128), np.uint8)
    found, n = [], 0
    for view in views(image):
        described = sift.detectAndCompute(view, None)[1]
        if described is not None:
            found.append(described.astype(np.uint8))
            n += len(described)
        if n >= most * 5 // 4:
            break
    if not found:
        return np.zeros((0, 128), np.uint8)
    rows = np.unique(np.concatenate(found), axis=0)
    return np.random.RandomState(len(rows)).permutation(rows)[:most]


def write(out, rows):
    records = np.empty(len(rows), np.dtype([("dim", "<i4"), ("v", "u1", (128,))]))
    records["dim"] = 128
    records["v"] = rows
    records.tofile(out)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    photos, folder = sys.argv[1:3]
    wanted = int(sys.argv[3]) if len(sys.argv) == 4 else 10_000_000
    names = sorted(n for n in os.listdir(photos) if n.lower().endswith((".jpg", ".jpeg", ".png")))
    if not names:
        sys.exit(f"{photos}: no photographs")
    asked = set(names[::50])
    os.makedirs(folder, exist_ok=True)
    sift = cv2.SIFT_create(nfeatures=4000, contrastThreshold=0.02)
    if not os.path.exists(os.path.join(folder, "query.bvecs")):
        queries = [descriptors(sift, os.path.join(photos, n), QUERIES // len(asked) + 1) for n in sorted(asked)]
        with open(os.path.join(folder, "query.part"), "wb") as out:
            write(out, np.concatenate(queries)[:QUERIES])
        os.rename(os.path.join(folder, "query.part"), os.path.join(folder, "query.bvecs"))
    left = [n for n in names if n not in asked]
    with open(os.path.join(folder, "base.bvecs"), "ab") as out, open(os.path.join(folder, "photos.tsv"), "a+") as journal:
        journal.seek(0)
        whole = [line for line in journal if line.endswith("\n")]
        journal.truncate(len("".join(whole).encode()))
        given = [int(line.split("\t")[1]) for line in whole]
        if [line.split("\t")[0] for line in whole] != left[:len(given)]:
            sys.exit(f"{folder}: begun with other photographs")
        done = sum(given)
        out.truncate(done * 132)
        for i, name in enumerate(left[len(given):], len(given)):
            share = -(-(wanted - done) // (len(left) - i))  # twice as many: some photos show too little
            rows = descriptors(sift, os.path.join(photos, name), share * 2)[:wanted - done]
            write(out, rows)
            out.flush()
            journal.write(f"{name}\t{len(rows)}\n")
            journal.flush()
            done += len(rows)
            if i % 20 == 0:
                print(f"\r{i} photos, {done} rows", end="", file=sys.stderr, flush=True)
    print(f"\r{folder}: {done} rows of {wanted}, {QUERIES} queries")


if __name__ == "__main__":
    main()
