// Faces back into the working frame. Rectangles first, then one block a pair of luma rows and their chroma row.
#include "device.cuh"

extern "C" __global__ void paste_rectangles(const float* frame_from_crop, const int* count, int k, int width, int height, int frame_w, int frame_h, int* rectangles) {
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

// The mask at a crop coordinate, 0 outside the crop, times opacity.
__device__ __forceinline__ float mask_at(const Face& f, float u, float v, float opacity) {
    const float inside = cover(u, f.width) * cover(v, f.height);
    const Tap tu = tap(u, f.width), tv = tap(v, f.height);
    const float* top = f.mask + tv.low * f.width;
    const float* bottom = f.mask + tv.high * f.width;
    return inside * opacity * mix(mix(top[tu.low], top[tu.high], tu.part), mix(bottom[tu.low], bottom[tu.high], tu.part), tv.part);
}

__device__ __forceinline__ float plane_at(const float* plane, int width, const Tap& tu, const Tap& tv) {
    const float* top = plane + tv.low * width;
    const float* bottom = plane + tv.high * width;
    return mix(mix(top[tu.low], top[tu.high], tu.part), mix(bottom[tu.low], bottom[tu.high], tu.part), tv.part);
}

__device__ __forceinline__ Rgb face_at(const Face& f, const Norm& norm, float u, float v) {
    const Tap tu = tap(u, f.width), tv = tap(v, f.height);
    const float a = clamp(plane_at(f.first, f.width, tu, tv) * norm.mul[0] + norm.add[0], 0.0f, 255.0f);
    const float b = clamp(plane_at(f.second, f.width, tu, tv) * norm.mul[1] + norm.add[1], 0.0f, 255.0f);
    const float c = clamp(plane_at(f.third, f.width, tu, tv) * norm.mul[2] + norm.add[2], 0.0f, 255.0f);
    Rgb out;
    out.r = norm.swap ? c : a;
    out.g = b;
    out.b = norm.swap ? a : c;
    return out;
}

__device__ __forceinline__ u8 blend(u8 old, float value, float part) {
    return code(mix((float)old, value, leastf(part, 1.0f)));
}

extern "C" __global__ void paste(Frame frame, const float* faces, const float* masks, int mask_stride, const float* crop_from_frame, const int* rectangles, int k, int width, int height, Norm norm, float opacity) {
    const int cy = blockIdx.x, top = 2 * cy;
    const Colour& c = frame.colour;
    const long long plane = (long long)width * height;
    for (int face = 0; face < k; ++face) {
        const int* r = rectangles + 4 * face;
        if (top < r[1] || top >= r[3]) continue;
        const float* m = crop_from_frame + 6 * face;
        const float m0 = m[0], m1 = m[1], m2 = m[2], m3 = m[3], m4 = m[4], m5 = m[5];
        Face f;
        f.first = faces + 3 * plane * face;
        f.second = f.first + plane;
        f.third = f.second + plane;
        f.mask = masks + (long long)mask_stride * face;
        f.width = width;
        f.height = height;
        // Counted from column 0, so that a column has the same lane for every face and needs no barrier.
        const int lanes = blockDim.x, lane = threadIdx.x;
        for (int cx = (r[0] / 2 + lanes - 1 - lane) / lanes * lanes + lane; 2 * cx < r[2]; cx += lanes) {
            for (int i = 0; i < 4; ++i) {
                const int x = 2 * cx + (i & 1), y = top + (i >> 1);
                if (x >= frame.width || y >= frame.height) continue;
                const float u = m0 * (float)x + m1 * (float)y + m2, v = m3 * (float)x + m4 * (float)y + m5;
                const float part = mask_at(f, u, v, opacity);
                if (!(part > 0.0f)) continue;
                u8* to = frame.y + (long long)y * frame.y_pitch + x;
                *to = blend(*to, y_of(c, luma_of(c, face_at(f, norm, u, v))), part);
            }
            const float x = 2.0f * ((float)cx - c.cx0), y = (float)top + 0.5f;
            const float u = m0 * x + m1 * y + m2, v = m3 * x + m4 * y + m5;
            const float part = mask_at(f, u, v, opacity);
            if (!(part > 0.0f)) continue;
            const Rgb p = face_at(f, norm, u, v);
            const float luma = luma_of(c, p);
            u8* to = frame.uv + (long long)cy * frame.uv_pitch + 2 * cx;
            to[0] = blend(to[0], u_of(c, luma, p.b), part);
            to[1] = blend(to[1], v_of(c, luma, p.r), part);
        }
    }
}
