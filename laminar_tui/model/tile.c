/* Causal attention of some heads, a tile of query rows at a time: scores become weights in place, and are counted and
 * measured while they are in the cache; then the counts are packed and the rows' numbers averaged. What `tiles` does by
 * tensor operations and `tally` by numpy, and compared with them before it is used; `native` says how it is built and
 * `compiled` how it is called. Plain C11 that a compiler turns into vector instructions, no headers but the standard
 * ones. The products are a BLAS's.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { N_BINS = 15361, BLOCK = 512, PACKED = 32, SET = (N_BINS + PACKED - 1) / PACKED * PACKED };

/* In the order of `compiled.PARTS`. */
enum { CONTENT, ORIGIN, SELF, SINK, FINAL_SELF, FINAL_SINK, FINAL_CONTENT, N_PARTS };

/* In the order of `compiled.MEANS`; the formulas stand in `profile.statistics`. */
enum {
    ENTROPY, ENTROPY_SHARE, EFFECTIVE_TOKENS, PARTICIPATION_RATIO, HOYER, SCORE_VARIANCE, DISTANCE, SINK_SHARE,
    PREVIOUS_TOKEN, ITSELF, OFF_SEQUENCE, REST_ENTROPY, REST_ENTROPY_SHARE, REST_EFFECTIVE_TOKENS,
    REST_PARTICIPATION_RATIO, REST_HOYER, REST_DISTANCE, REST_PREVIOUS_TOKEN, REST_ITSELF, FINAL_ENTROPY,
    FINAL_EFFECTIVE_TOKENS, FINAL_SINK_SHARE, N_MEANS
};

static const double REST_AT_LEAST = 1e-6;      /* as in `profile.statistics` */
static const float SMALLEST = 1.17549435e-38f; /* the smallest normal number, `UNDERFLOW` there; less is taken for 0 */
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

/* ln x for a normal number, within 1e-7 of it or of 1: x = 2^n m with m near 1, and a polynomial in m - 1. */
static inline float log_of(float x) {
    uint32_t bits = bits_of(x);
    int32_t n = (int32_t)(bits - 0x3f3504f3u) >> 23; /* so that sqrt(1/2) <= m < sqrt(2) */
    float f = float_of(bits - ((uint32_t)n << 23)) - 1.0f;
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    float square = f * f;
    float rest = p * f * square + (float)n * -2.12194440e-4f - 0.5f * square;
    return f + rest + (float)n * 0.693359375f;
}

/* The bin of 0 <= x <= 1, its bit pattern when it is rounded to float16, half to even; some bin for any other number. */
static inline uint32_t bin_of(float x) {
    uint32_t bits = bits_of(x);
    uint32_t normal = (bits + 0xfff + ((bits >> 13) & 1)) >> 13;
    uint32_t small = bits_of(x + 0.5f) - bits_of(0.5f); /* the addition rounds to multiples of 2^-24 */
    uint32_t bin = x < 6.103515625e-5f ? small : normal - (112 << 10);
    return bin < N_BINS ? bin : N_BINS - 1;
}

static void count(const float *weights, int64_t n, uint32_t *hits) {
    uint32_t bins[BLOCK];
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t size = n - start < BLOCK ? n - start : BLOCK;
#pragma omp simd
        for (int64_t i = 0; i < size; i++)
            bins[i] = bin_of(weights[start + i]);
        /* Neighbours often fall into one bin, and adding to it must wait for the addition before: two sets of bins. */
        int64_t i = 0;
        for (; i + 1 < size; i += 2) {
            hits[bins[i]]++;
            hits[SET + bins[i + 1]]++;
        }
        if (i < size)
            hits[bins[i]]++;
    }
}

/* What is needed of a query's row once its weights are gone; sums are over the content, the keys between the first and
 * the query itself. */
struct row {
    double entropy, squares;         /* sums of -w ln w and of w^2 */
    float first, itself, previous;   /* single weights, 0 where there is no such key */
    float total, position;           /* sums of w and of w k */
    int32_t n_seen, n_positive;      /* keys that are seen, and content weights above 0 */
    uint8_t sees_first, sees_itself;
};
_Static_assert(sizeof(struct row) == 48, "as `compiled.ROW_BYTES` says");

/* One query's row of n keys: scores -> weights. Returns 1 if a score is no number. */
static int read_row(float *row, int64_t n, const uint8_t *seen, struct row *found, double *received, uint32_t *hits) {
    int64_t q = n - 1;
    float top = -__builtin_inff();
    int bad = 0;
    int32_t n_seen = (int32_t)n;
    if (seen) {
        n_seen = 0;
#pragma omp simd reduction(+ : n_seen)
        for (int64_t k = 0; k < n; k++) {
            row[k] = seen[k] ? row[k] : -__builtin_inff();
            n_seen += seen[k] != 0;
        }
    }
#pragma omp simd reduction(max : top) reduction(| : bad)
    for (int64_t k = 0; k < n; k++) {
        bad |= !(row[k] <= 3.402823466e38f);
        top = row[k] > top ? row[k] : top;
    }
    if (bad || top == -__builtin_inff())
        return 1;

    double sum = 0; /* in float32 the 1 of the top score would swallow what is added to its lane */
    float mixed = 0;
    float first_e = exp_of(row[0] - top), itself_e = exp_of(row[q] - top);
#pragma omp simd reduction(+ : sum, mixed)
    for (int64_t k = 1; k < q; k++) {
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
    for (int64_t k = 1; k < q; k++) {
        float w = row[k] * inverse;
        w = w < SMALLEST ? 0.0f : w;
        row[k] = w;
        received[k] += w;
        total += w;
        squares += w * w;
        position += w * (float)(int32_t)k;
        n_positive += w > 0;
    }
    row[0] = (float)(first_e / sum);
    row[q] = q > 0 ? (float)(itself_e / sum) : row[0];
    if (q > 1)
        count(row + 1, q - 1, hits);
    /* ln w = x - ln sum, with x the score from which the highest is subtracted. */
    *found = (struct row){
        .entropy = log(sum) * (double)total - (double)(mixed * inverse),
        .squares = squares,
        .first = row[0],
        .itself = row[q],
        .previous = q > 0 ? row[q - 1] : 0.0f,
        .total = total,
        .position = position,
        .n_seen = n_seen,
        .n_positive = n_positive,
        .sees_first = seen ? seen[0] : 1,
        .sees_itself = seen ? seen[q] : 1,
    };
    return 0;
}

/* The sample variance of ln w over the keys that are seen: that of the scores. */
static double variance_of_scores(const float *row, int64_t n, const uint8_t *seen, int32_t n_seen) {
    double sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++) {
        float score = log_of(row[k] > SMALLEST ? row[k] : SMALLEST);
        sum += (double)(!seen || seen[k] ? score : 0.0f);
    }
    float mean = (float)(sum / n_seen);
#pragma omp simd reduction(+ : squares)
    for (int64_t k = 0; k < n; k++) {
        float off = log_of(row[k] > SMALLEST ? row[k] : SMALLEST) - mean;
        squares += (double)(!seen || seen[k] ? off * off : 0.0f);
    }
    return squares / (n_seen - 1);
}

/* Products of matrices, as every BLAS offers them to Fortran: column after column, and numbers by their address. A BLAS
 * with 32-bit integers reads the lower half of these. */
typedef void sgemm_type(const char *, const char *, const int64_t *m, const int64_t *n, const int64_t *k,
                        const float *alpha, const float *a, const int64_t *lda, const float *b, const int64_t *ldb,
                        const float *beta, float *c, const int64_t *ldc);

/* A layer: what is read, and where the results go; `compiled.Layer` says the same to ctypes. Steps are in numbers, from
 * one head or token to the next; the numbers of one token lie side by side. There are two tokens at least. */
struct layer {
    const float *query, *key, *value;                   /* [heads, tokens, size] */
    int64_t query_step[2], key_step[2], value_step[2];  /* head, token */
    int64_t n_heads, group, n_tokens, size, value_size; /* `group` neighbouring heads share a key head */
    double scaling;
    const uint8_t *seen;   /* bool [n_tokens, n_tokens], or NULL for plain causal */
    const int32_t *places; /* [n_tokens], where in `kept` a query's row goes; -1 for nowhere */
    int64_t n_kept, most_entries;
    float *output;      /* [n_heads, n_tokens, value_size] */
    float *kept;        /* [n_heads, n_kept, n_tokens], 0 beyond the query */
    float *final;       /* [n_heads, n_tokens], the last query's row */
    float *key_shares;  /* [n_heads, n_tokens] */
    double *means;      /* [n_heads, N_MEANS] */
    double *sum_errors; /* [n_heads], how far a row's sum is from 1 at most */
    uint16_t *bins;     /* [n_heads, most_entries], the bins that were hit, part after part; */
    uint32_t *hits;     /* the same, how often; */
    int64_t *starts;    /* [n_heads, N_PARTS + 1], where the parts begin; */
    int64_t *zeros;     /* [n_heads, N_PARTS], how many weights are 0 */
    double *totals;     /* [n_heads, N_PARTS, 2], sums of weights and of their squares */
    float *patterns;    /* [n_heads, n_tokens, n_tokens], or NULL */
};

/* A thread's workplace for one head at a time. */
struct room {
    float *tile;      /* the weights of a tile, or of 8 rows if these are more */
    uint32_t *pairs;  /* [2, SET], zeros; zeros again afterwards */
    struct row *rows; /* [n_tokens] */
    double *received; /* [n_tokens], what each key got of the content */
};

static const uint8_t *seen_by(const struct layer *layer, int64_t q) {
    return layer->seen ? layer->seen + q * layer->n_tokens : 0;
}

struct mean {
    double sum;
    int64_t n;
};

static void add(struct mean *mean, double value) {
    mean->sum += value;
    mean->n++;
}

static double entr(double w) {
    return w > 0 ? -w * log(w) : 0;
}

static double share(double a, double b) {
    return b > 0 ? a / b : 0;
}

/* The numbers of one row but the variance of its scores. */
static void add_row(struct mean *means, const struct row *row, int64_t q, int is_last) {
    double sink = row->first, itself = row->itself;
    double rest = row->total + itself, rest_squares = row->squares + itself * itself;
    double rest_entropy = row->entropy + entr(itself);
    double rest_distance = (double)q * rest - (row->position + (double)q * itself);
    double total = rest + sink, squares = rest_squares + sink * sink, entropy = rest_entropy + entr(sink);
    add(means + SINK_SHARE, sink);
    add(means + PREVIOUS_TOKEN, row->previous);
    add(means + ITSELF, itself);
    add(means + OFF_SEQUENCE, 1 - total);
    if (row->n_seen < 2)
        return;
    double root = sqrt(row->n_seen), effective = exp(entropy);
    add(means + ENTROPY, entropy);
    add(means + ENTROPY_SHARE, entropy / log(row->n_seen));
    add(means + EFFECTIVE_TOKENS, effective);
    add(means + PARTICIPATION_RATIO, share(1, squares));
    add(means + HOYER, (root - share(total, sqrt(squares))) / (root - 1));
    add(means + DISTANCE, rest_distance + sink * (double)q);
    if (rest > REST_AT_LEAST) {
        double own = rest_entropy / rest + log(rest);
        add(means + REST_ENTROPY, own);
        add(means + REST_EFFECTIVE_TOKENS, exp(own));
        add(means + REST_PARTICIPATION_RATIO, share(rest * rest, rest_squares));
        add(means + REST_DISTANCE, rest_distance / rest);
        int32_t n_rest = row->n_seen - row->sees_first;
        if (n_rest >= 2) {
            double rest_root = sqrt(n_rest), inverse = 1 / rest;
            add(means + REST_ENTROPY_SHARE, own / log(n_rest));
            add(means + REST_HOYER, (rest_root - share(rest, sqrt(rest_squares))) / (rest_root - 1));
            add(means + REST_PREVIOUS_TOKEN, row->previous * inverse);
            add(means + REST_ITSELF, itself * inverse);
        }
    }
    if (is_last) {
        add(means + FINAL_ENTROPY, entropy);
        add(means + FINAL_EFFECTIVE_TOKENS, effective);
        add(means + FINAL_SINK_SHARE, sink);
    }
}

/* A part of a head being counted. */
struct part {
    uint32_t *pairs;
    int64_t *zeros;
    double *totals;
    uint32_t lowest, highest; /* the bins that were hit lie between these */
};

static void count_one(struct part *part, float w) {
    uint32_t bin = bin_of(w);
    part->pairs[bin]++;
    part->lowest = bin < part->lowest ? bin : part->lowest;
    part->highest = bin > part->highest ? bin : part->highest;
    *part->zeros += w == 0;
    part->totals[0] += w;
    part->totals[1] += (double)w * w;
}

/* Move what was counted to entries; returns how many bins were hit. One entry more is written to. */
static int64_t pack(const struct part *part, uint16_t *bins, uint32_t *hits) {
    int64_t n = 0;
    for (uint32_t start = part->lowest / PACKED * PACKED; start <= part->highest; start += PACKED) {
        uint32_t *a = part->pairs + start, *b = part->pairs + SET + start, both[PACKED], any = 0;
        for (uint32_t i = 0; i < PACKED; i++)
            any |= a[i] | b[i], both[i] = a[i] + b[i];
        if (!any)
            continue;
        for (uint32_t i = 0; i < PACKED; i++) {
            bins[n] = (uint16_t)(start + i);
            hits[n] = both[i];
            n += both[i] != 0;
        }
        memset(a, 0, PACKED * sizeof *a);
        memset(b, 0, PACKED * sizeof *b);
    }
    return n;
}

/* The parts of a head. */
static void pack_parts(const struct layer *layer, int64_t head, const struct room *room) {
    int64_t n = layer->n_tokens, last = n - 1, n_content = 0, n_positive = 0;
    const struct row *rows = room->rows;
    const float *final = layer->final + head * n;
    const uint8_t *seen = seen_by(layer, last);
    uint32_t *hits = layer->hits + head * layer->most_entries;
    uint16_t *bins = layer->bins + head * layer->most_entries;
    int64_t *starts = layer->starts + head * (N_PARTS + 1), *zeros = layer->zeros + head * N_PARTS;
    double *totals = layer->totals + head * N_PARTS * 2;
    memset(zeros, 0, N_PARTS * sizeof *zeros);
    memset(totals, 0, N_PARTS * 2 * sizeof *totals);
    starts[0] = 0;
    for (int which = 0; which < N_PARTS; which++) {
        struct part part = {room->pairs, zeros + which, totals + 2 * which, N_BINS, 0};
        switch (which) {
        case CONTENT: /* is counted already, and with it what the mask hides */
            for (int64_t q = 1; q < n; q++) {
                n_content += rows[q].n_seen - rows[q].sees_first - rows[q].sees_itself;
                n_positive += rows[q].n_positive;
                part.totals[0] += rows[q].total;
                part.totals[1] += rows[q].squares;
            }
            room->pairs[0] -= (uint32_t)((n - 1) * (n - 2) / 2 - n_content);
            *part.zeros = n_content - n_positive;
            part.lowest = 0;
            part.highest = N_BINS - 1;
            break;
        case ORIGIN:
            if (rows[0].sees_itself)
                count_one(&part, rows[0].itself);
            break;
        case SELF:
            for (int64_t q = 1; q < n; q++)
                if (rows[q].sees_itself)
                    count_one(&part, rows[q].itself);
            break;
        case SINK:
            for (int64_t q = 1; q < n; q++)
                if (rows[q].sees_first)
                    count_one(&part, rows[q].first);
            break;
        case FINAL_SELF:
            if (rows[last].sees_itself)
                count_one(&part, final[last]);
            break;
        case FINAL_SINK:
            if (rows[last].sees_first)
                count_one(&part, final[0]);
            break;
        case FINAL_CONTENT:
            for (int64_t k = 1; k < last; k++)
                if (!seen || seen[k])
                    count_one(&part, final[k]);
            break;
        }
        starts[which + 1] = starts[which] + pack(&part, bins + starts[which], hits + starts[which]);
    }
}

/* What is said of a head once its rows are read. */
static void finish_head(const struct layer *layer, int64_t head, const struct room *room) {
    int64_t n = layer->n_tokens;
    const struct row *rows = room->rows;
    double *received = room->received, error = 0;
    struct mean means[N_MEANS] = {0};
    for (int64_t q = 0; q < n; q++) {
        double off = (double)rows[q].total + rows[q].first + (q > 0 ? rows[q].itself : 0.0f) - 1;
        error = fabs(off) > error ? fabs(off) : error;
        received[0] += rows[q].sees_first ? rows[q].first : 0.0f;
        if (q > 0) {
            received[q] += rows[q].sees_itself ? rows[q].itself : 0.0f;
            add_row(means, rows + q, q, q == n - 1);
        }
        if (q > 0 && layer->places[q] >= 0 && rows[q].n_seen >= 2) {
            const float *row = layer->kept + (head * layer->n_kept + layer->places[q]) * n;
            add(means + SCORE_VARIANCE, variance_of_scores(row, q + 1, seen_by(layer, q), rows[q].n_seen));
        }
    }
    layer->sum_errors[head] = error;
    for (int64_t k = 0; k < n; k++)
        layer->key_shares[head * n + k] = (float)(received[k] / (double)(n - k));
    for (int i = 0; i < N_MEANS; i++)
        layer->means[head * N_MEANS + i] = means[i].n ? means[i].sum / (double)means[i].n : (double)NAN;
    pack_parts(layer, head, room);
}

static int read_tile(const struct layer *layer, int64_t head, int64_t first, int64_t end, const struct room *room) {
    int64_t n = layer->n_tokens;
    for (int64_t q = first; q < end; q++) {
        float *row = room->tile + (q - first) * end;
        if (read_row(row, q + 1, seen_by(layer, q), room->rows + q, room->received, room->pairs))
            return 1;
        size_t bytes = (size_t)(q + 1) * sizeof *row;
        if (layer->places[q] >= 0) {
            float *kept = layer->kept + (head * layer->n_kept + layer->places[q]) * n;
            memcpy(kept, row, bytes);
            memset(kept + q + 1, 0, (size_t)(n - q - 1) * sizeof *kept);
        }
        if (q == n - 1)
            memcpy(layer->final + head * n, row, bytes);
        if (layer->patterns)
            memcpy(layer->patterns + (head * n + q) * n, row, bytes);
        memset(row + q + 1, 0, (size_t)(end - q - 1) * sizeof *row);
    }
    return 0;
}

static int attend(sgemm_type *sgemm, const struct layer *layer, const struct room *room, int64_t first_head,
                  int64_t end_head, int64_t n_rows, int64_t n_weights) {
    const float scaling = (float)layer->scaling, one = 1, none = 0;
    int64_t n = layer->n_tokens;
    for (int64_t head = first_head; head < end_head; head++) {
        const float *query = layer->query + head * layer->query_step[0];
        const float *key = layer->key + head / layer->group * layer->key_step[0];
        const float *value = layer->value + head / layer->group * layer->value_step[0];
        float *output = layer->output + head * n * layer->value_size;
        memset(room->received, 0, (size_t)n * sizeof *room->received);
        for (int64_t first = 0, end; first < n; first = end) {
            int64_t rows = n_weights / (first + n_rows);
            rows = rows > n_rows ? n_rows : rows < 8 ? 8 : rows;
            rows = rows > n - first ? n - first : rows;
            end = first + rows;
            sgemm("T", "N", &end, &rows, &layer->size, &scaling, key, &layer->key_step[1],
                  query + first * layer->query_step[1], &layer->query_step[1], &none, room->tile, &end);
            if (read_tile(layer, head, first, end, room)) {
                memset(room->pairs, 0, 2 * SET * sizeof *room->pairs);
                return 1;
            }
            sgemm("N", "N", &layer->value_size, &rows, &end, &one, value, &layer->value_step[1], room->tile, &end,
                  &none, output + first * layer->value_size, &layer->value_size);
        }
        finish_head(layer, head, room);
    }
    return 0;
}

/* Some heads of a layer, a tile of at most n_rows query rows and n_weights weights (or 8 rows) at a time.
 *
 * Returns 0, or 1 if a score is no number or a row sees nothing. */
int laminar_attend(sgemm_type *sgemm, const struct layer *layer, const struct room *room, int64_t first_head,
                   int64_t end_head, int64_t n_rows, int64_t n_weights) {
#ifdef __SSE__
    /* One product of numbers that are not normal takes as long as fifty others: they are taken for 0 meanwhile. */
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
#endif
    int bad = attend(sgemm, layer, room, first_head, end_head, n_rows, n_weights);
#ifdef __SSE__
    __builtin_ia32_ldmxcsr(before);
#endif
    return bad;
}
