// The detector's input from NV12 in one pass. A block makes a few rows of a tile of columns: for each row its lanes
// first bring the source rows down to one (columns side by side: vectors on a CPU, coalesced on a GPU), then resample
// that row, then convert colour once per output pixel. Luma and chroma each go their own way until then.
#include "device.cuh"

// launch_pixels.py chooses tiles within these, and the grid from LETTERBOX_ROWS.
#define LETTERBOX_COLUMNS 2048  // source columns of a tile
#define LETTERBOX_TILE 256      // output columns of a tile
#define LETTERBOX_ROWS 4        // output rows of a block, which share what depends on columns only

struct Pad {
    float value[3];
};

// One axis of one plane. Source edge of output edge e is e * ratio + shift; shrinking by more than 2 averages
// over the area, because bilinear taps would then leave samples out.
struct Axis {
    float ratio, shift;
    int n;
    bool area;
};

__device__ __forceinline__ Axis axis(int source, int plane, int out, float shift, float half) {
    Axis a;
    a.ratio = (float)source / (float)out * half;
    a.shift = shift;
    a.n = plane;
    a.area = a.ratio > 2.0f;
    return a;
}

// The source samples of one output index: from `first`, with weights that fall to 0 outside low..high.
struct Span {
    int first;
    float low, high, scale;
};

__device__ __forceinline__ Span span(const Axis& a, int i) {
    Span s;
    if (a.area) {
        s.low = clamp((float)i * a.ratio + a.shift, 0.0f, (float)a.n);
        s.high = clamp((float)(i + 1) * a.ratio + a.shift, 0.0f, (float)a.n);
        s.scale = 1.0f / (s.high - s.low);
    } else {
        s.low = clamp(((float)i + 0.5f) * a.ratio + a.shift - 0.5f, 0.0f, (float)(a.n - 1));
        s.high = s.low + 1.0f;
        s.scale = 1.0f;
    }
    s.first = (int)s.low;
    return s;
}

// Overlap of sample j's px with the span: the area weight, and for a span of one px the bilinear weight.
__device__ __forceinline__ float weight(const Span& s, int j) {
    const float over = leastf((float)(j + 1), s.high) - mostf((float)j, s.low);
    return mostf(over, 0.0f) * s.scale;
}

__device__ __forceinline__ int taps(const Axis& a) {
    const int whole = (int)a.ratio;
    if (!a.area) return 2;
    return (float)whole == a.ratio && a.shift == 0.0f ? whole : whole + 2;
}

// Source rows to one row of floats, `count` bytes from `from` on.
__device__ __forceinline__ void squash(
        const u8* plane, int pitch, const Axis& a, int i, int from, int count, float* __restrict__ row) {
    const Span s = span(a, i);
    const int n = taps(a);
    for (int t = 0; t < n; ++t) {
        const float w = weight(s, s.first + t);
        const u8* __restrict__ source = plane + (long long)least(s.first + t, a.n - 1) * pitch + from;
        if (t == 0)
            for (int c = threadIdx.x; c < count; c += blockDim.x) row[c] = (float)source[c] * w;
        else if (w > 0.0f)
            for (int c = threadIdx.x; c < count; c += blockDim.x) row[c] += (float)source[c] * w;
    }
}

// Where a tile's columns read a row, worked out once for all its rows. All taps but the first and the last two
// weigh 1 / span.
struct Columns {
    int at[LETTERBOX_TILE];
    float first[LETTERBOX_TILE], last_but_one[LETTERBOX_TILE], last[LETTERBOX_TILE], full[LETTERBOX_TILE];
};

__device__ __forceinline__ void plan(const Axis& a, int x, int count, int from, Columns& p) {
    const int n = taps(a);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const Span s = span(a, x + i);
        p.at[i] = s.first - from;
        p.first[i] = weight(s, s.first);
        p.last_but_one[i] = n > 2 ? weight(s, s.first + n - 2) : 0.0f;
        p.last[i] = weight(s, s.first + n - 1);
        p.full[i] = s.scale;
    }
}

// STEP samples lie between two neighbours of the row: 1 for luma, 2 for U or V.
template <int STEP>
__device__ __forceinline__ float gather(const Columns& p, int n, int i, const float* row) {
    const float* at = row + STEP * p.at[i];
    float sum = at[0] * p.first[i] + at[STEP * (n - 1)] * p.last[i];
    if (n > 2) {
        float inner = 0.0f;
        for (int t = 1; t < n - 2; ++t) inner += at[STEP * t];
        sum += at[STEP * (n - 2)] * p.last_but_one[i] + inner * p.full[i];
    }
    return sum;
}

// Whole ratios, the usual ones (1080p and 2160p into 640): no table, and vectors on a CPU.
template <int RATIO>
__device__ __forceinline__ void gather_whole(int count, const float* __restrict__ row, float* __restrict__ out) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        float sum = row[RATIO * i];
        for (int t = 1; t < RATIO; ++t) sum += row[RATIO * i + t];
        out[i] = sum * (1.0f / RATIO);
    }
}

// The same where every column has the first one's weights and the next column's sample: no table, and vectors on a CPU.
__device__ __forceinline__ void spread(
        const Columns& p, int count, const float* __restrict__ row, float* __restrict__ us, float* __restrict__ vs) {
    const float first = p.first[0], last = p.last[0];
    const float* __restrict__ from = row + 2 * p.at[0];
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        us[i] = from[2 * i] * first + from[2 * i + 2] * last;
        vs[i] = from[2 * i + 1] * first + from[2 * i + 3] * last;
    }
}

extern "C" __global__ void letterbox(
        Frame f, float* __restrict__ out, int in_w, int in_h, int new_w, int new_h, int columns, int tile,
        Norm norm, Pad pad) {
    // A tap past the last sample weighs nothing, but is read: the rows are longer by what may be read so.
    __shared__ float luma[LETTERBOX_COLUMNS + 8], pairs[LETTERBOX_COLUMNS + 16];
    __shared__ Columns columns_l, columns_c;
    __shared__ float ys[LETTERBOX_TILE], us[LETTERBOX_TILE], vs[LETTERBOX_TILE];
    const int x0 = blockIdx.x * tile, x1 = least(x0 + tile, columns), end = most(least(x1, new_w), x0);
    const long long plane = (long long)in_w * in_h;
    const int half_w = (f.width + 1) / 2, half_h = (f.height + 1) / 2;
    const Axis lx = axis(f.width, f.width, new_w, 0.0f, 1.0f), ly = axis(f.height, f.height, new_h, 0.0f, 1.0f);
    // A sample on the even column has its px a quarter chroma px further left than one between two columns.
    const Axis cx = axis(f.width, half_w, new_w, 0.25f + f.colour.cx0, 0.5f);
    const Axis cy = axis(f.height, half_h, new_h, 0.0f, 0.5f);
    const int taps_l = taps(lx), taps_c = taps(cx);
    const int from_l = span(lx, x0).first, from_c = span(cx, x0).first;
    const int count_l = least(span(lx, end - 1).first + taps_l, f.width) - from_l;
    const int count_c = least(span(cx, end - 1).first + taps_c, half_w) - from_c;
    const int whole = lx.ratio == (float)(int)lx.ratio && lx.ratio <= 4.0f ? (int)lx.ratio : 0;
    plan(lx, x0, whole > 1 ? 0 : end - x0, from_l, columns_l);
    plan(cx, x0, end - x0, from_c, columns_c);

    const int y0 = blockIdx.y * LETTERBOX_ROWS;
    for (int y = y0; y < least(y0 + LETTERBOX_ROWS, in_h); ++y) {
        const int stop = y < new_h ? end : x0;  // picture from x0 to stop, then padding
        float* __restrict__ to = out + (long long)y * in_w;
        for (int c = 0; c < 3; ++c)
            for (int x = stop + threadIdx.x; x < x1; x += blockDim.x) to[c * plane + x] = pad.value[c];
        const int count = stop - x0;
        if (count == 0) continue;
        __syncthreads();  // the last row has been read
        squash(f.y, f.y_pitch, ly, y, from_l, count_l, luma);
        squash(f.uv, f.uv_pitch, cy, y, 2 * from_c, 2 * count_c, pairs);
        for (int i = threadIdx.x; i < 4; i += blockDim.x) luma[count_l + i] = 0.0f;
        for (int i = threadIdx.x; i < 8; i += blockDim.x) pairs[2 * count_c + i] = 0.0f;
        __syncthreads();
        if (whole == 2)
            gather_whole<2>(count, luma, ys);
        else if (whole == 3)
            gather_whole<3>(count, luma, ys);
        else if (whole == 4)
            gather_whole<4>(count, luma, ys);
        else
            for (int i = threadIdx.x; i < count; i += blockDim.x) ys[i] = gather<1>(columns_l, taps_l, i, luma);
        // One chroma sample a column (720p into 640): all columns but the last weigh their two samples alike.
        const int alike = cx.ratio == 1.0f ? count - 1 : 0;
        if (alike > 0) spread(columns_c, alike, pairs, us, vs);
        for (int i = alike + threadIdx.x; i < count; i += blockDim.x) {
            us[i] = gather<2>(columns_c, taps_c, i, pairs);
            vs[i] = gather<2>(columns_c, taps_c, i, pairs + 1);
        }
        to += x0;
        for (int i = threadIdx.x; i < count; i += blockDim.x)
            store(norm, rgb_of(f.colour, ys[i], us[i], vs[i]), to + i, to + plane + i, to + 2 * plane + i);
    }
}
