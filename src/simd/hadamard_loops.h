/* hadamard_loops.h - the walk of the Walsh-Hadamard kernels over registers.
 *
 * A text that hadamard_<isa>.c includes, inside its target region, once it has defined LANES (floats of a register), the
 * type vec, and load(p), store(p, v), add(a, b), sub(a, b), mul(a, b), within(v): the stages h = 1, 2, .., LANES / 2
 * inside one register. Stages come in ascending order everywhere, and every value is one addition or subtraction of the
 * same two numbers at every level: so are the bits. */

/* Registers that pass through all their stages at once: of 16 or 32 that there are. */
#define CHUNK 8

KI_INLINE void cross(vec *a, vec *b)
{
    vec difference = sub(*a, *b);
    *a = add(*a, *b);
    *b = difference;
}

/* All stages below regs * LANES of as many floats; regs is a constant 1, 2, 4 or 8. */
KI_INLINE void chunk(float *x, const size_t regs)
{
    vec v[CHUNK];
    KI_UNROLL
    for (size_t i = 0; i < regs; i++) v[i] = within(load(x + i * LANES));
    KI_UNROLL
    for (size_t i = 0; i + 1 < regs; i += 2) cross(&v[i], &v[i + 1]);
    KI_UNROLL
    for (size_t i = 0; i + 3 < regs; i += 4) {
        cross(&v[i], &v[i + 2]);
        cross(&v[i + 1], &v[i + 3]);
    }
    KI_UNROLL
    for (size_t i = 0; i + 4 < regs; i++) cross(&v[i], &v[i + 4]);
    KI_UNROLL
    for (size_t i = 0; i < regs; i++) store(x + i * LANES, v[i]);
}

/* One stage, or two at once, of 4 * h floats a turn. h is a multiple of LANES. */
static void stage(float *x, size_t n, size_t h)
{
    for (size_t i = 0; i < n; i += 2 * h)
        for (size_t j = i; j < i + h; j += LANES) {
            vec a = load(x + j), b = load(x + j + h);
            cross(&a, &b);
            store(x + j, a);
            store(x + j + h, b);
        }
}

static void two_stages(float *x, size_t n, size_t h)
{
    for (size_t i = 0; i < n; i += 4 * h)
        for (size_t j = i; j < i + h; j += LANES) {
            vec a = load(x + j), b = load(x + j + h), c = load(x + j + 2 * h), d = load(x + j + 3 * h);
            cross(&a, &b);
            cross(&c, &d);
            cross(&a, &c);
            cross(&b, &d);
            store(x + j, a);
            store(x + j + h, b);
            store(x + j + 2 * h, c);
            store(x + j + 3 * h, d);
        }
}

static void few(float *x, size_t n)
{
    for (size_t h = 1; h < n; h *= 2)
        for (size_t i = 0; i < n; i += 2 * h)
            for (size_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
}

static void fht_f32(float *x, size_t n)
{
    if (n < LANES) {
        few(x, n);
    } else if (n == LANES) {
        chunk(x, 1);
    } else if (n == 2 * LANES) {
        chunk(x, 2);
    } else if (n == 4 * LANES) {
        chunk(x, 4);
    } else {
        for (size_t i = 0; i < n; i += CHUNK * LANES) chunk(x + i, CHUNK);
        size_t h = CHUNK * LANES;
        for (; 4 * h <= n; h *= 4) two_stages(x, n, h);
        if (h < n) stage(x, n, h);
    }
}

static void mul_f32(float *y, const float *a, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store(y + i, mul(load(y + i), load(a + i)));
    for (; i < n; i++) y[i] *= a[i];
}

static void butterfly_f32(float *a, float *b, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec left = load(a + i), right = load(b + i);
        cross(&left, &right);
        store(a + i, left);
        store(b + i, right);
    }
    for (; i < n; i++) {
        float left = a[i], right = b[i];
        a[i] = left + right;
        b[i] = left - right;
    }
}

static void enter(ki_kernels *table)
{
    table->fht_f32 = fht_f32;
    table->mul_f32 = mul_f32;
    table->butterfly_f32 = butterfly_f32;
}
