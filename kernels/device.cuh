// Types and small functions that every kernel shares. Plain CUDA C++ in FP32; blocks are one-dimensional and
// kernels stride by blockDim.x, so any number of lanes gives the same result.
#pragma once

typedef unsigned char u8;

// Coefficients of ColourArg in launch_types.py: codes and RGB are on 0..255.
struct Colour {
    float ky, y0, rv, gu, gv, bu;             // to RGB
    float kr, kg, kb, y_of, u_of, v_of, cx0;  // from RGB; chroma column of luma column x is x / 2 + cx0
};

struct Frame {
    u8* y;
    u8* uv;
    int y_pitch, uv_pitch, width, height;
    Colour colour;
};

struct Planes {
    u8 *y, *u, *v;
    int y_pitch, u_pitch, v_pitch, width, height;
};

struct Norm {
    float mul[3], add[3];
    int swap;  // 1: channel 0 is blue
};

struct Rgb {
    float r, g, b;
};

// A comparison that is false for NaN, so NaN becomes the lower bound and never an address.
__device__ __forceinline__ float clamp(float value, float low, float high) {
    value = value > low ? value : low;
    return value < high ? value : high;
}

__device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int most(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ float leastf(float a, float b) { return a < b ? a : b; }
__device__ __forceinline__ float mostf(float a, float b) { return a > b ? a : b; }
__device__ __forceinline__ bool is_finite(float value) { return value - value == 0.0f; }
__device__ __forceinline__ u8 code(float value) { return (u8)(int)(clamp(value, 0.0f, 255.0f) + 0.5f); }

__device__ __forceinline__ Rgb rgb_of(const Colour& c, float y, float u, float v) {
    const float luma = c.ky * (y - c.y0);
    u -= 128.0f;
    v -= 128.0f;
    Rgb out;
    out.r = clamp(luma + c.rv * v, 0.0f, 255.0f);
    out.g = clamp(luma - c.gu * u - c.gv * v, 0.0f, 255.0f);
    out.b = clamp(luma + c.bu * u, 0.0f, 255.0f);
    return out;
}

__device__ __forceinline__ float luma_of(const Colour& c, Rgb p) { return c.kr * p.r + c.kg * p.g + c.kb * p.b; }
__device__ __forceinline__ float y_of(const Colour& c, float luma) { return c.y0 + luma * c.y_of; }
__device__ __forceinline__ float u_of(const Colour& c, float luma, float b) { return 128.0f + (b - luma) * c.u_of; }
__device__ __forceinline__ float v_of(const Colour& c, float luma, float r) { return 128.0f + (r - luma) * c.v_of; }

// Where a coordinate falls between two samples of a row or column of n, edges repeated.
struct Tap {
    int low, high;
    float part;  // weight of high
};

__device__ __forceinline__ Tap tap(float at, int n) {
    at = clamp(at, 0.0f, (float)(n - 1));
    Tap t;
    t.low = (int)at;
    t.high = least(t.low + 1, n - 1);
    t.part = at - (float)t.low;
    return t;
}

__device__ __forceinline__ float mix(float a, float b, float part) { return a + (b - a) * part; }

// The weight that bilinear taps inside 0..n-1 have at a coordinate: 1 inside, fading over one px beyond.
__device__ __forceinline__ float cover(float at, int n) {
    return clamp(leastf(at + 1.0f, (float)n - at), 0.0f, 1.0f);
}

// Bilinear taps of a plane, edges repeated: four places and their weights.
struct Taps {
    int a, b, c, d;
    float wa, wb, wc, wd;
};

__device__ __forceinline__ Taps taps_at(float x, float y, int width, int height, int pitch, int step) {
    const Tap tx = tap(x, width), ty = tap(y, height);
    Taps t;
    t.a = ty.low * pitch + tx.low * step;
    t.b = ty.low * pitch + tx.high * step;
    t.c = ty.high * pitch + tx.low * step;
    t.d = ty.high * pitch + tx.high * step;
    t.wd = tx.part * ty.part;
    t.wb = tx.part - t.wd;
    t.wc = ty.part - t.wd;
    t.wa = 1.0f - tx.part - t.wc;
    return t;
}

// Bilinear luma and chroma at a luma coordinate, as RGB.
__device__ __forceinline__ Rgb sample(const Frame& f, float x, float y) {
    const Taps l = taps_at(x, y, f.width, f.height, f.y_pitch, 1);
    const float cx = x * 0.5f + f.colour.cx0, cy = y * 0.5f - 0.25f;
    const Taps c = taps_at(cx, cy, (f.width + 1) / 2, (f.height + 1) / 2, f.uv_pitch, 2);
    const u8 *p = f.y, *u = f.uv, *v = f.uv + 1;
    return rgb_of(f.colour, p[l.a] * l.wa + p[l.b] * l.wb + p[l.c] * l.wc + p[l.d] * l.wd,
                  u[c.a] * c.wa + u[c.b] * c.wb + u[c.c] * c.wc + u[c.d] * c.wd,
                  v[c.a] * c.wa + v[c.b] * c.wb + v[c.c] * c.wc + v[c.d] * c.wd);
}

__device__ __forceinline__ void store(const Norm& norm, Rgb p, float* first, float* second, float* third) {
    const float a = norm.swap ? p.b : p.r, c = norm.swap ? p.r : p.b;
    *first = a * norm.mul[0] + norm.add[0];
    *second = p.g * norm.mul[1] + norm.add[1];
    *third = c * norm.mul[2] + norm.add[2];
}
