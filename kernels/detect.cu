// A detector's raw rows to candidates, candidates to detections. One block each: a few thousand rows, and what
// one block does needs no atomics between blocks and comes out the same every time.
#include "device.cuh"

#define LEVELS 5
#define BINS 256
#define CANDIDATES 1024

struct Levels {
    const float *scores[LEVELS], *boxes[LEVELS], *points[LEVELS];
    int rows[LEVELS], stride[LEVELS], cells_x[LEVELS];
    int count, anchors;
};

struct Candidate {
    float *score, *box, *points;
    int* index;
};

// Counters of Candidates in launch_detect.py.
#define HELD 0
#define DROPPED 1
#define BEST 2
#define ABOVE 3

extern "C" __global__ void reset_candidates(int* counters) {
    for (int i = threadIdx.x; i < 4; i += blockDim.x) counters[i] = 0;
}

__device__ __forceinline__ int bin(float score) { return (int)(clamp(score, 0.0f, 1.0f) * (BINS - 1)); }

__device__ __forceinline__ void write_candidate(
        const Levels& l, int level, int row, int index, float to_frame, Candidate c, int slot) {
    const int cell = row / l.anchors, stride = l.stride[level];
    const float cx = (float)(cell % l.cells_x[level] * stride), cy = (float)(cell / l.cells_x[level] * stride);
    const float* b = l.boxes[level] + 4 * row;
    const float* p = l.points[level] + 10 * row;
    const float s = (float)stride;
    c.score[slot] = l.scores[level][row];
    c.index[slot] = index;
    c.box[4 * slot] = (cx - b[0] * s) * to_frame;
    c.box[4 * slot + 1] = (cy - b[1] * s) * to_frame;
    c.box[4 * slot + 2] = (cx + b[2] * s) * to_frame;
    c.box[4 * slot + 3] = (cy + b[3] * s) * to_frame;
    for (int i = 0; i < 5; ++i) {
        c.points[10 * slot + 2 * i] = (cx + p[2 * i] * s) * to_frame;
        c.points[10 * slot + 2 * i + 1] = (cy + p[2 * i + 1] * s) * to_frame;
    }
}

// A row that passes has a finite box and finite points as well: nothing downstream asks again.
__device__ __forceinline__ bool passes(const Levels& l, int level, int row, float threshold) {
    const float score = l.scores[level][row];
    if (!(score >= threshold) || !is_finite(score)) return false;
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) sum += l.boxes[level][4 * row + i];
    for (int i = 0; i < 10; ++i) sum += l.points[level][10 * row + i];
    return is_finite(sum);
}

extern "C" __global__ void __launch_bounds__(1024) scrfd_decode(
        Levels l, float threshold, float to_frame, int first_index, float* score, int* index, float* box,
        float* points, int* counters, int room) {
    __shared__ int histogram[BINS], best, held, cut;
    const Candidate c = {score, box, points, index};
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) histogram[i] = 0;
    if (threadIdx.x == 0) best = counters[BEST];
    __syncthreads();
    int highest = 0;  // positive floats compare as their bits do
    for (int level = 0; level < l.count; ++level)
        for (int row = threadIdx.x; row < l.rows[level]; row += blockDim.x) {
            const float s = l.scores[level][row];
            if (s > 0.0f && is_finite(s)) highest = most(highest, __float_as_int(s));
            if (passes(l, level, row, threshold)) atomicAdd(&histogram[bin(s)], 1);
        }
    atomicMax(&best, highest);
    __syncthreads();
    // Bins above `cut` fit as a whole; the rows of the bin `cut` come by index while there is room.
    if (threadIdx.x == 0) {
        int above = 0, free = room - counters[HELD], at = BINS;
        while (at > 0 && above + histogram[at - 1] <= free) above += histogram[--at];
        cut = at - 1;
        held = counters[HELD];
        counters[BEST] = best;
    }
    __syncthreads();
    int first = first_index;
    for (int level = 0; level < l.count; first += l.rows[level++])
        for (int row = threadIdx.x; row < l.rows[level]; row += blockDim.x)
            if (bin(l.scores[level][row]) > cut && passes(l, level, row, threshold))
                write_candidate(l, level, row, first + row, to_frame, c, atomicAdd(&held, 1));
    __syncthreads();
    if (threadIdx.x != 0) return;
    int above = 0;
    for (int i = 0; i < BINS; ++i) above += histogram[i];
    const int wanted = counters[HELD] + above;
    first = first_index;
    if (cut >= 0)
        for (int level = 0; level < l.count; first += l.rows[level++])
            for (int row = 0; row < l.rows[level] && held < room; ++row)
                if (bin(l.scores[level][row]) == cut && passes(l, level, row, threshold))
                    write_candidate(l, level, row, first + row, to_frame, c, held++);
    counters[HELD] = held;
    counters[DROPPED] += wanted - held;
    counters[ABOVE] += above;
}

__device__ __forceinline__ float overlap(const float* a, const float* b) {
    const float w = leastf(a[2], b[2]) - mostf(a[0], b[0]) + 1.0f;
    const float h = leastf(a[3], b[3]) - mostf(a[1], b[1]) + 1.0f;
    const float both = mostf(w, 0.0f) * mostf(h, 0.0f);
    const float area_a = (a[2] - a[0] + 1.0f) * (a[3] - a[1] + 1.0f);
    const float area_b = (b[2] - b[0] + 1.0f) * (b[3] - b[1] + 1.0f);
    return both / (area_a + area_b - both);
}

__device__ __forceinline__ bool before(float score_a, int index_a, float score_b, int index_b) {
    return score_a > score_b || (score_a == score_b && index_a < index_b);
}

extern "C" __global__ void __launch_bounds__(512) nms(
        const float* score, const int* index, const float* box, const float* points, const int* counters,
        int candidates, float threshold, float* out_box, float* out_points, float* out_score, int* out_count,
        float* out_best, int room) {
    __shared__ int order[CANDIDATES];
    __shared__ u8 dead[CANDIDATES];
    __shared__ int kept[64], found;
    const int n = least(counters[HELD], candidates);
    int size = 1;
    while (size < n) size *= 2;
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
        order[i] = i;
        dead[i] = 0;
    }
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    // Bitonic sort of slots; slots from n on sort behind everything.
    for (int width = 2; width <= size; width *= 2)
        for (int step = width / 2; step > 0; step /= 2) {
            for (int i = threadIdx.x; i < size; i += blockDim.x) {
                const int j = i ^ step;
                if (j <= i) continue;
                const int a = order[i], b = order[j];
                const bool b_first = b < n && (a >= n || before(score[b], index[b], score[a], index[a]));
                const bool a_first = a < n && (b >= n || before(score[a], index[a], score[b], index[b]));
                if ((i & width) == 0 ? b_first : a_first) {
                    order[i] = b;
                    order[j] = a;
                }
            }
            __syncthreads();
        }
    for (int i = 0; i < n; ++i) {
        // Every lane reads the same flag and count: both were written before the last barrier.
        if (dead[i]) continue;
        if (found == room) break;
        __syncthreads();
        if (threadIdx.x == 0) kept[found++] = order[i];
        for (int j = i + 1 + threadIdx.x; j < n; j += blockDim.x)
            if (overlap(box + 4 * order[i], box + 4 * order[j]) > threshold) dead[j] = 1;
        __syncthreads();
    }
    for (int i = threadIdx.x; i < room; i += blockDim.x) {
        const bool some = i < found;
        const int from = some ? kept[i] : 0;
        out_score[i] = some ? score[from] : 0.0f;
        for (int c = 0; c < 4; ++c) out_box[4 * i + c] = some ? box[4 * from + c] : 0.0f;
        for (int c = 0; c < 10; ++c) out_points[10 * i + c] = some ? points[10 * from + c] : 0.0f;
    }
    if (threadIdx.x == 0) {
        *out_count = found;
        *out_best = __int_as_float(counters[BEST]);
    }
}
