// Copies of whole frames, and NV12 <-> RGB. One block a row, or a pair of luma rows and their chroma row.
#include "device.cuh"

__device__ __forceinline__ void copy_row(const u8* __restrict__ from, u8* __restrict__ to, int bytes) {
    for (int i = threadIdx.x; i < bytes; i += blockDim.x) to[i] = from[i];
}

__device__ __forceinline__ void interleave_row(
        const u8* __restrict__ u, const u8* __restrict__ v, u8* __restrict__ uv, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        uv[2 * i] = u[i];
        uv[2 * i + 1] = v[i];
    }
}

__device__ __forceinline__ void split_row(const u8* __restrict__ uv, u8* __restrict__ u, u8* __restrict__ v, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        u[i] = uv[2 * i];
        v[i] = uv[2 * i + 1];
    }
}

__device__ __forceinline__ void copy_luma_pair(
        const u8* from, int from_pitch, u8* to, int to_pitch, int width, int height) {
    const int row = 2 * (int)blockIdx.x;
    for (int y = row; y < least(row + 2, height); ++y)
        copy_row(from + (long long)y * from_pitch, to + (long long)y * to_pitch, width);
}

extern "C" __global__ void copy_planar(Planes from, Frame to) {
    copy_luma_pair(from.y, from.y_pitch, to.y, to.y_pitch, to.width, to.height);
    const long long row = blockIdx.x;
    interleave_row(from.u + row * from.u_pitch, from.v + row * from.v_pitch, to.uv + row * to.uv_pitch,
                   (to.width + 1) / 2);
}

extern "C" __global__ void copy_nv12(Frame from, Frame to) {
    copy_luma_pair(from.y, from.y_pitch, to.y, to.y_pitch, to.width, to.height);
    const long long row = blockIdx.x;
    copy_row(from.uv + row * from.uv_pitch, to.uv + row * to.uv_pitch, (to.width + 1) / 2 * 2);
}

extern "C" __global__ void nv12_to_planar(Frame from, Planes to) {
    copy_luma_pair(from.y, from.y_pitch, to.y, to.y_pitch, to.width, to.height);
    const long long row = blockIdx.x;
    split_row(from.uv + row * from.uv_pitch, to.u + row * to.u_pitch, to.v + row * to.v_pitch, (to.width + 1) / 2);
}

// Chroma of one column of chroma samples, between two rows of them.
struct Chroma {
    float u, v;
};

__device__ __forceinline__ Chroma chroma_at(const u8* top, const u8* bottom, int column, float part) {
    Chroma c;
    c.u = mix(top[2 * column], bottom[2 * column], part);
    c.v = mix(top[2 * column + 1], bottom[2 * column + 1], part);
    return c;
}

// A row of RGB, two px at a time: on the frame's own grid luma needs no taps, and chroma's weights are fixed.
template <class Put>
__device__ __forceinline__ void convert_row(const Frame& f, int y, const Put& put) {
    const int half_w = (f.width + 1) / 2;
    const Tap cy = tap((float)y * 0.5f - 0.25f, (f.height + 1) / 2);
    const u8* luma = f.y + (long long)y * f.y_pitch;
    const u8* top = f.uv + (long long)cy.low * f.uv_pitch;
    const u8* bottom = f.uv + (long long)cy.high * f.uv_pitch;
    const bool on_even_column = f.colour.cx0 == 0.0f;
    const float before = on_even_column ? 0.0f : 0.25f, after = on_even_column ? 0.5f : 0.25f;
    for (int i = threadIdx.x; i < half_w; i += blockDim.x) {
        const Chroma last = chroma_at(top, bottom, most(i - 1, 0), cy.part);
        const Chroma here = chroma_at(top, bottom, i, cy.part);
        const Chroma next = chroma_at(top, bottom, least(i + 1, half_w - 1), cy.part);
        put(2 * i, rgb_of(f.colour, luma[2 * i], mix(here.u, last.u, before), mix(here.v, last.v, before)));
        if (2 * i + 1 < f.width)
            put(2 * i + 1, rgb_of(f.colour, luma[2 * i + 1], mix(here.u, next.u, after), mix(here.v, next.v, after)));
    }
}

extern "C" __global__ void nv12_to_rgb_hwc(Frame from, u8* rgb, int swap) {
    const int y = blockIdx.x;
    u8* row = rgb + (long long)y * from.width * 3;
    convert_row(from, y, [=](int x, Rgb p) {
        row[3 * x] = code(swap ? p.b : p.r);
        row[3 * x + 1] = code(p.g);
        row[3 * x + 2] = code(swap ? p.r : p.b);
    });
}

extern "C" __global__ void nv12_to_rgb_nchw(Frame from, float* rgb, Norm norm) {
    const int y = blockIdx.x;
    const long long plane = (long long)from.width * from.height;
    float* row = rgb + (long long)y * from.width;
    convert_row(from, y, [=](int x, Rgb p) { store(norm, p, row + x, row + plane + x, row + 2 * plane + x); });
}

__device__ __forceinline__ Rgb pixel(const u8* rgb, int width, int x, int y, int swap) {
    const u8* p = rgb + ((long long)y * width + x) * 3;
    Rgb out;
    out.r = p[swap ? 2 : 0];
    out.g = p[1];
    out.b = p[swap ? 0 : 2];
    return out;
}

extern "C" __global__ void rgb_to_nv12(const u8* rgb, Frame to, int swap) {
    const int cy = blockIdx.x, top = 2 * cy, bottom = least(top + 1, to.height - 1);
    const Colour& c = to.colour;
    for (int y = top; y <= bottom; ++y)
        for (int x = threadIdx.x; x < to.width; x += blockDim.x)
            to.y[(long long)y * to.y_pitch + x] = code(y_of(c, luma_of(c, pixel(rgb, to.width, x, y, swap))));
    // Chroma on the even column (1-2-1) or between two columns (0-1-1): the same loop with other weights.
    const float left = c.cx0 == 0.0f ? 0.25f : 0.0f, right = 0.5f - left;
    for (int cx = threadIdx.x; cx < (to.width + 1) / 2; cx += blockDim.x) {
        Rgb sum = {0.0f, 0.0f, 0.0f};
        for (int i = 0; i < 6; ++i) {
            const int column = i % 3 - 1;
            const float weight = 0.5f * (column < 0 ? left : column > 0 ? right : 0.5f);
            const int x = least(most(2 * cx + column, 0), to.width - 1);
            const Rgb p = pixel(rgb, to.width, x, i < 3 ? top : bottom, swap);
            sum.r += p.r * weight;
            sum.g += p.g * weight;
            sum.b += p.b * weight;
        }
        u8* uv = to.uv + (long long)cy * to.uv_pitch + 2 * cx;
        const float luma = luma_of(c, sum);
        uv[0] = code(u_of(c, luma, sum.b));
        uv[1] = code(v_of(c, luma, sum.r));
    }
}
