// Faces back into the working frame. Rectangles first, then one block a pair of luma rows and their chroma row.
#include "device.cuh"

extern "C" __global__ void paste_rectangles(
        const float* frame_from_crop, const int* count, int k, int width, int height, int frame_w, int frame_h,
        int* rectangles) {
    for (int face = threadIdx.x; face < k; face += blockDim.x) {
        const float* m = frame_from_crop + 6 * face;
        int* out = rectangles + 4 * face;
        out[0] = out[1] = out[2] = out[3] = 0;
        float x0 = 1e9f, y0 = 1e9f, x1 = -1e9f, y1 = -1e9f, sum = 0.0f;
        for (int corner = 0; corner < 4; ++corner) {
            // Bilinear sampling of the mask reaches one px beyond the crop's outer centres.
            const float u = corner & 1 ? (float)width : -1.0f, v = corner & 2 ? (float)height : -1.0f;
            const float x = m[0] * u + m[1] * v + m[2], y = m[3] * u + m[4] * v + m[5];
            x0 = leastf(x0, x);
            x1 = mostf(x1, x);
            y0 = leastf(y0, y);
            y1 = mostf(y1, y);
            sum += x + y;
        }
        if (face >= *count || !is_finite(sum)) continue;
        // Grown to whole chroma samples, whose own position may lie one column or row away from the luma px.
        const int left = (int)clamp(floorf(x0) - 1.0f, 0.0f, (float)frame_w) / 2 * 2;
        const int top = (int)clamp(floorf(y0) - 1.0f, 0.0f, (float)frame_h) / 2 * 2;
        const int right = least(((int)clamp(ceilf(x1) + 2.0f, 0.0f, (float)frame_w) + 1) / 2 * 2, frame_w);
        const int bottom = least(((int)clamp(ceilf(y1) + 2.0f, 0.0f, (float)frame_h) + 1) / 2 * 2, frame_h);
        if (right <= left || bottom <= top) continue;
        out[0] = left;
        out[1] = top;
        out[2] = right;
        out[3] = bottom;
    }
}

struct Face {
    const float *first, *second, *third, *mask;
    int width, height;
};

__device__ __forceinline__ float read(const float* plane, const Taps& t) {
    return plane[t.a] * t.wa + plane[t.b] * t.wb + plane[t.c] * t.wc + plane[t.d] * t.wd;
}

// The mask at a crop coordinate, 0 outside the crop and where it is NaN, times opacity.
__device__ __forceinline__ float mask_at(const Face& f, const Taps& t, float u, float v, float opacity) {
    return clamp(read(f.mask, t) * cover(u, f.width) * cover(v, f.height) * opacity, 0.0f, 1.0f);
}

__device__ __forceinline__ Rgb face_at(const Face& f, const Taps& t, const Norm& norm) {
    const float a = clamp(read(f.first, t) * norm.mul[0] + norm.add[0], 0.0f, 255.0f);
    const float b = clamp(read(f.second, t) * norm.mul[1] + norm.add[1], 0.0f, 255.0f);
    const float c = clamp(read(f.third, t) * norm.mul[2] + norm.add[2], 0.0f, 255.0f);
    Rgb out;
    out.r = norm.swap ? c : a;
    out.g = b;
    out.b = norm.swap ? a : c;
    return out;
}

// A part of 0 gives the old code back, bit by bit: a face's colours are finite, having been clamped.
__device__ __forceinline__ u8 blend(u8 old, float value, float part) { return code(mix((float)old, value, part)); }

// The first column from `from` on that belongs to this lane. Counted from column 0, so that a column has the same
// lane for every face and faces need no barrier between them.
__device__ __forceinline__ int first_column(int from) {
    const int lanes = blockDim.x, lane = threadIdx.x;
    return (from + lanes - 1 - lane) / lanes * lanes + lane;
}

__device__ __forceinline__ void paste_luma(
        const Face& f, const float* m, const Norm& norm, const Colour& c, float opacity, int y, int from, int to,
        u8* __restrict__ row) {
    const float m0 = m[0], m3 = m[3], mu = m[1] * (float)y + m[2], mv = m[4] * (float)y + m[5];
    for (int x = first_column(from); x < to; x += blockDim.x) {
        const float u = m0 * (float)x + mu, v = m3 * (float)x + mv;
        const Taps t = taps_at(u, v, f.width, f.height, f.width, 1);
        const float part = mask_at(f, t, u, v, opacity);
        row[x] = blend(row[x], y_of(c, luma_of(c, face_at(f, t, norm))), part);
    }
}

__device__ __forceinline__ void paste_chroma(
        const Face& f, const float* m, const Norm& norm, const Colour& c, float opacity, int cy, int from, int to,
        u8* __restrict__ row) {
    const float y = 2.0f * (float)cy + 0.5f;
    const float m0 = m[0], m3 = m[3], mu = m[1] * y + m[2], mv = m[4] * y + m[5];
    for (int cx = first_column(from); cx < to; cx += blockDim.x) {
        const float x = 2.0f * ((float)cx - c.cx0), u = m0 * x + mu, v = m3 * x + mv;
        const Taps t = taps_at(u, v, f.width, f.height, f.width, 1);
        const float part = mask_at(f, t, u, v, opacity);
        const Rgb p = face_at(f, t, norm);
        const float luma = luma_of(c, p);
        row[2 * cx] = blend(row[2 * cx], u_of(c, luma, p.b), part);
        row[2 * cx + 1] = blend(row[2 * cx + 1], v_of(c, luma, p.r), part);
    }
}

extern "C" __global__ void paste(
        Frame frame, const float* faces, const float* masks, int mask_stride, const float* crop_from_frame,
        const int* rectangles, int k, int width, int height, Norm norm, float opacity) {
    const int cy = blockIdx.x, top = 2 * cy;
    const long long plane = (long long)width * height;
    for (int face = 0; face < k; ++face) {
        const int* r = rectangles + 4 * face;
        if (top < r[1] || top >= r[3]) continue;
        const float* m = crop_from_frame + 6 * face;
        Face f;
        f.first = faces + 3 * plane * face;
        f.second = f.first + plane;
        f.third = f.second + plane;
        f.mask = masks + (long long)mask_stride * face;
        f.width = width;
        f.height = height;
        for (int y = top; y < least(top + 2, frame.height); ++y)
            paste_luma(f, m, norm, frame.colour, opacity, y, r[0], r[2], frame.y + (long long)y * frame.y_pitch);
        u8* row = frame.uv + (long long)cy * frame.uv_pitch;
        paste_chroma(f, m, norm, frame.colour, opacity, cy, r[0] / 2, (r[2] + 1) / 2, row);
    }
}
