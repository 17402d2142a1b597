/* One tile of causal attention, in place: scores become weights, and are counted and measured while they are in the
 * cache. The same as the tensor operations of `fast`, in one walk along each query's row; see `native` for how it is
 * built and called. Plain C11 that a compiler turns into vector instructions; no headers but the standard ones.
 */

#include <stdint.h>
#include <string.h>

enum { N_BINS = 15361, BLOCK = 512 };

/* In the order of `fast._MEASURED`. */
enum { FIRST, ITSELF, PREVIOUS, TOTAL, NORM, MIXED_SCORES, POSITION, TOP_SCORE, TOP };

static const float LOWEST = -87.33654f; /* exp of less is taken for 0: it is no normal number */

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* exp(x) for x <= 0 within 1.5 units of the last place: x = n ln 2 + r, and a polynomial in r. */
static inline float exp_of(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to an integer */
    float at_least = x > LOWEST ? x : LOWEST;
    float shifted = at_least * 1.44269504088896341f + magic;
    float n = shifted - magic;
    float r = at_least - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    float e = float_of(bits_of(p) + (bits_of(shifted) << 23));
    return x > LOWEST ? e : 0.0f;
}

/* The bit pattern of 0 <= x <= 1 rounded to float16, half to even. */
static inline uint32_t half_of(float x) {
    uint32_t bits = bits_of(x);
    uint32_t normal = (bits + 0xfff + ((bits >> 13) & 1)) >> 13;
    uint32_t small = bits_of(x + 0.5f) - bits_of(0.5f); /* the addition rounds to multiples of 2^-24 */
    return x < 6.103515625e-5f ? small : normal - (112 << 10);
}

static void count(const float *weights, long n, uint32_t *hits) {
    uint32_t bins[BLOCK];
    for (long start = 0; start < n; start += BLOCK) {
        long size = n - start < BLOCK ? n - start : BLOCK;
#pragma omp simd
        for (long i = 0; i < size; i++) {
            uint32_t bin = half_of(weights[start + i]);
            bins[i] = bin < N_BINS ? bin : N_BINS - 1; /* no weight is above 1; but nothing is written elsewhere */
        }
        /* Neighbours often fall into one bin, and adding to it must wait for the addition before: two sets of bins. */
        long i = 0;
        for (; i + 1 < size; i += 2) {
            hits[bins[i]]++;
            hits[N_BINS + bins[i + 1]]++;
        }
        if (i < size)
            hits[bins[i]]++;
    }
}

/* One query's row of n keys: scores -> weights. Measures are written with a stride; 1 if a score is no number. */
static int read_row(float *row, long n, const uint8_t *seen, float *measured, long stride,
                    double *received, uint32_t *hits, int64_t *positive) {
    long q = n - 1;
    float top = -__builtin_inff();
    int bad = 0;
    if (seen) {
#pragma omp simd
        for (long k = 0; k < n; k++)
            row[k] = seen[k] ? row[k] : -__builtin_inff();
    }
#pragma omp simd reduction(max : top) reduction(| : bad)
    for (long k = 0; k < n; k++) {
        bad |= !(row[k] <= 3.402823466e38f);
        top = row[k] > top ? row[k] : top;
    }
    if (bad || top == -__builtin_inff())
        return 1;

    double sum = 0; /* in float32 the 1 of the top score would swallow what is added to its lane */
    float mixed = 0;
    float first_e = exp_of(row[0] - top), itself_e = exp_of(row[q] - top);
#pragma omp simd reduction(+ : sum, mixed)
    for (long k = 1; k < q; k++) {
        float x = row[k] - top;
        float e = exp_of(x);
        row[k] = e;
        sum += (double)e;
        mixed += e * (x > LOWEST ? x : 0.0f);
    }
    sum += first_e + (q > 0 ? itself_e : 0.0f);
    float inverse = (float)(1.0 / sum);

    float total = 0, squares = 0, position = 0;
    int32_t n_positive = 0;
#pragma omp simd reduction(+ : total, squares, position, n_positive)
    for (long k = 1; k < q; k++) {
        float w = row[k] * inverse;
        row[k] = w;
        received[k] += w;
        total += w;
        squares += w * w;
        position += w * (float)(int32_t)k;
        n_positive += w > 0;
    }
    row[0] = (float)(first_e / sum);
    row[q] = q > 0 ? (float)(itself_e / sum) : row[0];
    *positive += n_positive;
    if (q > 1)
        count(row + 1, q - 1, hits);

    measured[FIRST * stride] = row[0];
    measured[ITSELF * stride] = row[q];
    measured[PREVIOUS * stride] = q > 0 ? row[q - 1] : 0.0f;
    measured[TOTAL * stride] = total;
    measured[NORM * stride] = __builtin_sqrtf(squares);
    measured[MIXED_SCORES * stride] = mixed * inverse; /* of scores from which the highest is subtracted ... */
    measured[POSITION * stride] = position;
    measured[TOP_SCORE * stride] = 0.0f; /* ... so that the highest is 0, */
    measured[TOP * stride] = inverse;    /* and has this weight */
    return 0;
}

/* weights:  float32 [n_heads, n_rows, first + n_rows], the scores; overwritten with the weights
 * first:    the query of the first row
 * seen:     bool [n_tokens, n_tokens], or NULL for plain causal
 * measured: float32 [9, n_heads, n_tokens]
 * received: float64 [n_heads, n_tokens], added to
 * hits:     uint32 [n_heads, 2, N_BINS], added to
 * positive: int64 [n_heads], how many content weights are above 0, added to
 * places:   int32 [n_tokens], where in `kept` a query's row goes; -1 for nowhere
 * kept:     float32 [n_heads, n_kept, n_tokens]
 *
 * Returns 0, or 1 if a score is no number or a row sees nothing. */
int laminar_read_tile(float *weights, long n_heads, long first, long n_rows, long n_tokens, const uint8_t *seen,
                      float *measured, double *received, uint32_t *hits, int64_t *positive, const int32_t *places,
                      float *kept, long n_kept) {
    long end = first + n_rows, stride = n_heads * n_tokens;
    for (long head = 0; head < n_heads; head++) {
        for (long q = first; q < end; q++) {
            float *row = weights + (head * n_rows + q - first) * end;
            int bad = read_row(row, q + 1, seen ? seen + q * n_tokens : 0, measured + head * n_tokens + q, stride,
                               received + head * n_tokens, hits + head * 2 * N_BINS, positive + head);
            if (bad)
                return 1;
            if (places[q] >= 0)
                memcpy(kept + (head * n_kept + places[q]) * n_tokens, row, (size_t)(q + 1) * sizeof *row);
            memset(row + q + 1, 0, (size_t)(end - q - 1) * sizeof *row);
        }
    }
    return 0;
}

/* hits:  int64 [n_heads, N_BINS], added to
 * pairs: uint32 [n_heads, 2, N_BINS], what `laminar_read_tile` has counted; zeros afterwards */
void laminar_take_hits(int64_t *hits, uint32_t *pairs, long n_heads) {
    for (long head = 0; head < n_heads; head++) {
        int64_t *into = hits + head * N_BINS;
        uint32_t *from = pairs + head * 2 * N_BINS;
        for (long bin = 0; bin < N_BINS; bin++) {
            into[bin] += (int64_t)from[bin] + from[N_BINS + bin];
            from[bin] = from[N_BINS + bin] = 0;
        }
    }
}
