// A mouth on its way to a network and back: the crop of an upright or turned rectangle into stacked pictures, the
// generated picture into the frame with the frame's own texture, and one whole frame faded into another.
#include "device.cuh"

// What a frame brings along, floats at `place`: see launch_mouth.py.
#define FRAME_FROM_CROP 0
#define CROP_FROM_FRAME 6
#define OPACITY 12
#define RECTANGLE 13

// In px of the picture, ends excluded.
struct Window {
    int x0, y0, x1, y1;
};

// Where a picture lies in the crop, and the crop's size: the frame is repeated beyond its edges when `bounded`.
struct Inside {
    int x, y, width, height, bounded;
};

// The frame's px at crop coordinates, as the mean of n x n samples spread over one px of the crop.
__device__ __forceinline__ Rgb mean_at(const Frame& f, const float* m, float u, float v, int n, const Window& limits) {
    Rgb sum = {0.0f, 0.0f, 0.0f};
    const float step = 1.0f / (float)n, first = 0.5f * step - 0.5f;
    for (int j = 0; j < n; ++j)
        for (int i = 0; i < n; ++i) {
            const float a = u + first + step * (float)i, b = v + first + step * (float)j;
            const float x = clamp(m[0] * a + m[1] * b + m[2], (float)limits.x0, (float)limits.x1);
            const float y = clamp(m[3] * a + m[4] * b + m[5], (float)limits.y0, (float)limits.y1);
            const Rgb p = sample(f, x, y);
            sum.r += p.r;
            sum.g += p.g;
            sum.b += p.b;
        }
    const float part = step * step;
    sum.r *= part;
    sum.g *= part;
    sum.b *= part;
    return sum;
}

// First and last column and row that a sample may come from: the frame's, or those of the crop's own box, as a
// resize of a cut-out picture has it. A box is an upright matrix, whose edges lie half a px outside the crop.
__device__ __forceinline__ Window sampled_from(const Frame& f, const float* m, const Inside& in) {
    Window w = {0, 0, f.width - 1, f.height - 1};
    if (in.bounded) {
        const float right = m[0] * ((float)in.width - 0.5f) + m[2], bottom = m[4] * ((float)in.height - 0.5f) + m[5];
        w.x0 = (int)clamp(floorf(m[2] - 0.5f * m[0] + 1.0f), 0.0f, (float)w.x1);
        w.y0 = (int)clamp(floorf(m[5] - 0.5f * m[4] + 1.0f), 0.0f, (float)w.y1);
        w.x1 = (int)clamp(floorf(right), (float)w.x0, (float)w.x1);
        w.y1 = (int)clamp(floorf(bottom), (float)w.y0, (float)w.y1);
    }
    return w;
}

#define SAMPLES_MAX 4

// One block a row. Either picture may be missing; `masked` is black in the blank rectangle.
extern "C" __global__ void mouth_crop(
        Frame f, const float* place, float* masked, float* whole, int width, int height, Inside in, Window blank,
        Norm norm) {
    const float* m = place + FRAME_FROM_CROP;
    const int y = blockIdx.x;
    const long long plane = (long long)width * height, row = (long long)y * width;
    // A crop that shrinks the frame takes the mean of what it would skip; a sample is a mean of two px each way by
    // itself. A bounded crop is a plain bilinear resize.
    const float shrinks = sqrtf(fabsf(m[0] * m[4] - m[1] * m[3]));
    const int n = in.bounded ? 1 : (int)ceilf(clamp(0.5f * shrinks - 0.01f, 1.0f, (float)SAMPLES_MAX));
    const Window limits = sampled_from(f, m, in);
    const bool row_is_hidden = y >= blank.y0 && y < blank.y1;
    const Rgb black = {0.0f, 0.0f, 0.0f};
    for (int x = threadIdx.x; x < width; x += blockDim.x) {
        const Rgb p = mean_at(f, m, (float)(x + in.x), (float)(y + in.y), n, limits);
        if (whole) store(norm, p, whole + row + x, whole + row + plane + x, whole + row + 2 * plane + x);
        if (!masked) continue;
        const bool is_hidden = row_is_hidden && x >= blank.x0 && x < blank.x1;
        store(norm, is_hidden ? black : p, masked + row + x, masked + row + plane + x, masked + row + 2 * plane + x);
    }
}

// The generated picture into the middle of a larger one, in that one's values.
extern "C" __global__ void mouth_join(
        const float* generated, int width, int height, float* whole, int whole_width, int whole_height, int x, int y,
        Norm rgb_of_generated, Norm norm) {
    const int row = blockIdx.x;
    const long long plane = (long long)width * height, to_plane = (long long)whole_width * whole_height;
    const float* from = generated + (long long)row * width;
    float* to = whole + (long long)(row + y) * whole_width + x;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        Rgb p;
        const float a = clamp(from[i] * rgb_of_generated.mul[0] + rgb_of_generated.add[0], 0.0f, 255.0f);
        const float b = clamp(from[plane + i] * rgb_of_generated.mul[1] + rgb_of_generated.add[1], 0.0f, 255.0f);
        const float c = clamp(from[2 * plane + i] * rgb_of_generated.mul[2] + rgb_of_generated.add[2], 0.0f, 255.0f);
        p.r = rgb_of_generated.swap ? c : a;
        p.g = b;
        p.b = rgb_of_generated.swap ? a : c;
        store(norm, p, to + i, to + to_plane + i, to + 2 * to_plane + i);
    }
}

struct Texture {
    float part, alike, unlike;  // differences in levels of 0..255
};

__device__ __forceinline__ Rgb rgb_at(const float* picture, long long plane, long long at, const Norm& norm) {
    const float a = clamp(picture[at] * norm.mul[0] + norm.add[0], 0.0f, 255.0f);
    const float b = clamp(picture[plane + at] * norm.mul[1] + norm.add[1], 0.0f, 255.0f);
    const float c = clamp(picture[2 * plane + at] * norm.mul[2] + norm.add[2], 0.0f, 255.0f);
    Rgb out;
    out.r = norm.swap ? c : a;
    out.g = b;
    out.b = norm.swap ? a : c;
    return out;
}

__device__ __forceinline__ float most_apart(Rgb p, Rgb q) {
    return mostf(mostf(fabsf(p.r - q.r), fabsf(p.g - q.g)), fabsf(p.b - q.b));
}

#define WIDTH_MAX_PX 1024  // of a mouth's picture: a row of it in shared memory

// How far the picture agrees with the crop that it was made from, 0 to 1: the least of each px and those within `reach`
// columns of it. The crop is too coarse to show the lines that stood beside a change. One block a row.
extern "C" __global__ void mouth_agree(
        const float* generated, const float* whole, float* agreed, int width, int height, int reach, Norm of_made,
        Norm of_crop, Texture t) {
    __shared__ float here[WIDTH_MAX_PX];
    const long long plane = (long long)width * height, row = (long long)blockIdx.x * width;
    for (int x = threadIdx.x; x < width; x += blockDim.x) {
        const float apart = most_apart(rgb_at(generated, plane, row + x, of_made), rgb_at(whole, plane, row + x, of_crop));
        here[x] = t.part * clamp((t.unlike - apart) / (t.unlike - t.alike), 0.0f, 1.0f);
    }
    __syncthreads();
    for (int x = threadIdx.x; x < width; x += blockDim.x) {
        float found = 1.0f;
        for (int i = most(x - reach, 0); i <= least(x + reach, width - 1); ++i) found = leastf(found, here[i]);
        agreed[row + x] = found;
    }
}

// The least of the rows within `reach`, which completes the square.
__device__ __forceinline__ float least_agreed(const float* agreed, int width, int height, int x, int y, int reach) {
    float found = 1.0f;
    for (int j = most(y - reach, 0); j <= least(y + reach, height - 1); ++j)
        found = leastf(found, agreed[(long long)j * width + x]);
    return found;
}

// What a paste needs of every px of the picture, in the frame's own codes: made - w * crop for luma, U and V, then w
// and the mask; new = that + w * old. Worked out here, where there are fewer px than in the frame. `agreed` is read
// where there is a crop. One block a row.
extern "C" __global__ void mouth_weigh(
        const float* generated, const float* whole, const float* mask, const float* agreed, float* weighed, int width,
        int height, int reach, Colour c, Norm of_made, Norm of_crop) {
    const long long plane = (long long)width * height, row = (long long)blockIdx.x * width;
    for (int x = threadIdx.x; x < width; x += blockDim.x) {
        const long long at = row + x;
        const Rgb made = rgb_at(generated, plane, at, of_made);
        const float luma = luma_of(c, made);
        float y = y_of(c, luma), u = u_of(c, luma, made.b), v = v_of(c, luma, made.r), part = 0.0f;
        if (whole) {
            const Rgb crop = rgb_at(whole, plane, at, of_crop);
            const float old = luma_of(c, crop);
            // where the picture changed, the frame's fine detail belongs to what is no longer there
            part = least_agreed(agreed, width, height, x, blockIdx.x, reach);
            y -= part * y_of(c, old);
            u -= part * u_of(c, old, crop.b);
            v -= part * v_of(c, old, crop.r);
        }
        weighed[at] = y;
        weighed[plane + at] = u;
        weighed[2 * plane + at] = v;
        weighed[3 * plane + at] = part;
        weighed[4 * plane + at] = mask ? mask[at] : 1.0f;
    }
}

// A weighed picture; a hard one repeats its edges up to the rectangle's.
struct Weighed {
    const float* planes;
    int width, height, hard;
};

__device__ __forceinline__ float tapped(const float* plane, const Taps& t) {
    return plane[t.a] * t.wa + plane[t.b] * t.wb + plane[t.c] * t.wc + plane[t.d] * t.wd;
}

__device__ __forceinline__ float part_at(const Weighed& f, const Taps& t, float u, float v, float opacity) {
    float part = opacity * tapped(f.planes + 4LL * f.width * f.height, t);
    if (!f.hard) part *= cover(u, f.width) * cover(v, f.height);
    return clamp(part, 0.0f, 1.0f);
}

// A part of 0 gives the old code back, bit by bit.
__device__ __forceinline__ u8 painted(u8 old, float made, float texture, float part) {
    return code(mix((float)old, made + texture * (float)old, part));
}

// One block a pair of luma rows and their chroma row, inside the frame's rectangle alone.
extern "C" __global__ void mouth_paste(
        Frame frame, const float* weighed, const float* place, int width, int height, int offset_x, int offset_y,
        int hard) {
    const float* m = place + CROP_FROM_FRAME;
    const float opacity = place[OPACITY];
    const int x0 = (int)place[RECTANGLE], y0 = (int)place[RECTANGLE + 1];
    const int x1 = least((int)place[RECTANGLE + 2], frame.width), y1 = least((int)place[RECTANGLE + 3], frame.height);
    const int cy = blockIdx.x, top = 2 * cy;
    if (!(opacity > 0.0f) || top + 1 < y0 || top >= y1) return;
    const Weighed f = {weighed, width, height, hard};
    const long long plane = (long long)width * height;
    const float* texture = weighed + 3 * plane;
    for (int y = most(top, y0); y < least(top + 2, y1); ++y) {
        const float mu = m[1] * (float)y + m[2] - (float)offset_x, mv = m[4] * (float)y + m[5] - (float)offset_y;
        u8* row = frame.y + (long long)y * frame.y_pitch;
        for (int x = x0 + (int)threadIdx.x; x < x1; x += blockDim.x) {
            const float u = m[0] * (float)x + mu, v = m[3] * (float)x + mv;
            const Taps t = taps_at(u, v, width, height, width, 1);
            row[x] = painted(row[x], tapped(weighed, t), tapped(texture, t), part_at(f, t, u, v, opacity));
        }
    }
    // chroma lies between two rows; it belongs to the rectangle when its upper row does
    if (top < y0) return;
    const float y = (float)top + 0.5f;
    const float mu = m[1] * y + m[2] - (float)offset_x, mv = m[4] * y + m[5] - (float)offset_y;
    u8* row = frame.uv + (long long)cy * frame.uv_pitch;
    for (int cx = (x0 + 1) / 2 + (int)threadIdx.x; cx < (x1 + 1) / 2; cx += blockDim.x) {
        const float x = 2.0f * ((float)cx - frame.colour.cx0), u = m[0] * x + mu, v = m[3] * x + mv;
        const Taps t = taps_at(u, v, width, height, width, 1);
        const float part = part_at(f, t, u, v, opacity), kept = tapped(texture, t);
        row[2 * cx] = painted(row[2 * cx], tapped(weighed + plane, t), kept, part);
        row[2 * cx + 1] = painted(row[2 * cx + 1], tapped(weighed + 2 * plane, t), kept, part);
    }
}

__device__ __forceinline__ void fade_row(const u8* __restrict__ from, u8* __restrict__ to, int bytes, float part) {
    for (int i = threadIdx.x; i < bytes; i += blockDim.x) to[i] = code(mix((float)to[i], (float)from[i], part));
}

// One block a pair of luma rows and their chroma row.
extern "C" __global__ void fade_nv12(Frame from, Frame to, float part) {
    const int row = 2 * (int)blockIdx.x;
    for (int y = row; y < least(row + 2, to.height); ++y)
        fade_row(from.y + (long long)y * from.y_pitch, to.y + (long long)y * to.y_pitch, to.width, part);
    const long long chroma = blockIdx.x;
    fade_row(from.uv + chroma * from.uv_pitch, to.uv + chroma * to.uv_pitch, (to.width + 1) / 2 * 2, part);
}
