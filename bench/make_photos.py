#!/usr/bin/env python3
"""Make a folder of very many small photographs from a few thousand, for the first result of a search by picture (docs/perf.md).

usage: make_photos.py OUTDIR COUNT FOLDER...        (100,000 from 1,900 photos: a minute and a half of one processor, 0.7 GB)

Each photo of the FOLDERs (and of those below them) is cropped, scaled to a longer side of 112 to 160 pixels, sometimes mirrored, made lighter or darker, and saved as
a JPEG of quality 60 to 90, as often as it takes: OUTDIR/pictures/000/..JPEG. Every 20th photo is left out: their paths stand in OUTDIR/left_out.txt, to search by.
The same folders give the same pictures. Packages: python3-opencv, python3-numpy.
"""
import os
import sys

import cv2
import numpy as np

EVERY = 20  # of the photos, one is left out


def photos(folders):
    found = []
    for folder in folders:
        for path, _, names in sorted(os.walk(folder)):
            found += [os.path.join(path, name) for name in sorted(names) if name.lower().endswith((".jpg", ".jpeg"))]
    return found


def variant(image, chance):
    """A crop of half the sides or more, small; the first of a photo (chance None) shows all of it."""
    height, width = image.shape[:2]
    share, side, quality, light, mirrored = 1.0, 160, 85, 1.0, False
    top = left = 0
    if chance is not None:
        share, side, quality = chance.uniform(0.5, 1), chance.randint(112, 161), chance.randint(60, 91)
        light, mirrored = chance.uniform(0.8, 1.2), chance.randint(2) == 1
        top, left = int(chance.uniform(0, 1 - share) * height), int(chance.uniform(0, 1 - share) * width)
    h, w = max(1, int(share * height)), max(1, int(share * width))
    factor = side / max(h, w)
    small = cv2.resize(image[top:top + h, left:left + w], (max(1, round(w * factor)), max(1, round(h * factor))), interpolation=cv2.INTER_AREA)
    small = cv2.convertScaleAbs(small, alpha=light)
    if mirrored:
        small = cv2.flip(small, 1)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]


def main():
    if len(sys.argv) < 4 or not sys.argv[2].isdigit():
        sys.exit(__doc__)
    out, count, found = sys.argv[1], int(sys.argv[2]), photos(sys.argv[3:])
    left = [path for i, path in enumerate(found) if i % EVERY == EVERY - 1]
    taken = [path for i, path in enumerate(found) if i % EVERY != EVERY - 1]
    if not taken:
        sys.exit("no photographs there")
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "left_out.txt"), "w") as names:
        names.writelines(path + "\n" for path in left)
    cv2.setNumThreads(1)
    done = 0
    for i, path in enumerate(taken):
        image = cv2.imread(path, cv2.IMREAD_COLOR)
        if image is None:
            continue
        folder = os.path.join(out, "pictures", f"{i // 20:03d}")
        os.makedirs(folder, exist_ok=True)
        stem, chance = os.path.splitext(os.path.basename(path))[0], np.random.RandomState(i)
        for n in range(-(-(count - done) // (len(taken) - i))):  # this photo's share of what is still to be made
            variant(image, chance if n > 0 else None).tofile(os.path.join(folder, f"{stem}.{i}.{n}.JPEG"))
            done += 1
        if i % 100 == 0:
            print(f"\r{done} pictures", end="", file=sys.stderr, flush=True)
    print(f"\r{out}: {done} pictures of {len(taken)} photos; {len(left)} left out")


if __name__ == "__main__":
    main()
