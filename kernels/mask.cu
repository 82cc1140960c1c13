// Soft masks in crop space. A blurred shape is summed in closed form along a row (its row is an interval), so no
// mask needs a second buffer to blur in.
#include "device.cuh"

#define HALF_MAX 512
#define SIZE_MAX_PX 2048
#define MASKS 4
#define MASK_ROWS 16  // rows of a block of erode_blur_mask, which share the row's profile

struct Masks {
    const float* ptr[MASKS];
    int stride[MASKS];
    int count;
};

// Prefix sums of a normalised Gaussian window: below[i] is the weight of the first i of 2 * half + 1 taps.
__device__ void window(float* below, float sigma, int half) {
    const int n = 2 * half + 1;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const float d = (float)(i - half) / sigma;
        below[i + 1] = expf(-0.5f * d * d);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        below[0] = 0.0f;
        for (int i = 1; i <= n; ++i) below[i] += below[i - 1];
        for (int i = 1; i <= n; ++i) below[i] /= below[n];
    }
    __syncthreads();
}

// The weight of the window around x that falls on samples a..b.
__device__ __forceinline__ float share(const float* below, int half, int x, int a, int b) {
    const int n = 2 * half + 1;
    const int low = least(most(a - x + half, 0), n), high = least(most(b - x + half + 1, 0), n);
    return high > low ? below[high] - below[low] : 0.0f;
}

// The same where the row of `size` samples is mirrored at its first and last sample, as OpenCV does by default.
__device__ __forceinline__ float mirrored_share(const float* below, int half, int size, int x, int a, int b) {
    if (b < a) return 0.0f;
    const int end = 2 * (size - 1);
    return share(below, half, x, a, b) + share(below, half, x, -b, least(-a, -1)) +
           share(below, half, x, most(end - b, size), end - a);
}

// One block a column: each row's blur along the row at this column, then the blur along the column.
extern "C" __global__ void ellipse_mask(float* mask, int size, int radius, float sigma, int half) {
    __shared__ float below[2 * HALF_MAX + 2], rows[SIZE_MAX_PX];
    window(below, sigma, half);
    const int x = blockIdx.x, middle = size / 2;
    for (int y = threadIdx.x; y < size; y += blockDim.x) {
        // OpenCV fills what the outline touches: half a px more than the radius.
        const int rest = radius * radius + radius - (y - middle) * (y - middle);
        const int reach = rest < 0 ? -1 : (int)sqrtf((float)rest);
        const int a = most(middle - reach, 0), b = least(middle + reach, size - 1);
        rows[y] = rest < 0 ? 0.0f : mirrored_share(below, half, size, x, a, b);
    }
    __syncthreads();
    for (int y = threadIdx.x; y < size; y += blockDim.x) {
        float sum = 0.0f;
        for (int d = -half; d <= half; ++d) {
            int row = y + d < 0 ? -y - d : y + d;
            if (row >= size) row = 2 * (size - 1) - row;
            sum += (below[d + half + 1] - below[d + half]) * rows[row];
        }
        mask[(long long)y * size + x] = leastf(sum, 1.0f);
    }
}

extern "C" __global__ void box_mask(float* mask, int size, int x0, int x1, int y0, int y1, float sigma, int half) {
    __shared__ float below[2 * HALF_MAX + 2];
    window(below, sigma, half);
    const int y = blockIdx.x;
    const float vertical = mirrored_share(below, half, size, y, y0, y1 - 1);
    for (int x = threadIdx.x; x < size; x += blockDim.x)
        mask[(long long)y * size + x] = leastf(vertical * mirrored_share(below, half, size, x, x0, x1 - 1), 1.0f);
}

// How far a half-plane with this outward normal moves in when eroded by offsets -low..high on both axes.
__device__ __forceinline__ float inset(float nx, float ny, float low, float high) {
    return nx * (nx > 0.0f ? high : -low) + ny * (ny > 0.0f ? high : -low);
}

// A step of 0 to 1 at 0 behind a Gaussian that ends at +-reach.
__device__ __forceinline__ float soft_step(float at, float sigma, float reach) {
    const float unit = 0.70710678f / sigma, end = erff(reach * unit);
    return 0.5f + 0.5f * erff(clamp(at, -reach, reach) * unit) / end;
}

// The reference's mask of one face along one axis of the crop: full from low to high, both softened.
struct Profile {
    float low_u, high_u, low_v, high_v, sigma, reach;
};

__device__ Profile profile(const float* m, int size, int frame_w, int frame_h) {
    // The warped square of 255 counts where it is above 20: 0.92 px beyond its outer centres.
    const float a = -0.92f, b = (float)size - 0.08f;
    float x0 = 1e9f, y0 = 1e9f, x1 = -1e9f, y1 = -1e9f;
    for (int corner = 0; corner < 4; ++corner) {
        const float u = corner & 1 ? b : a, v = corner & 2 ? b : a;
        const float x = m[0] * u + m[1] * v + m[2], y = m[3] * u + m[4] * v + m[5];
        x0 = leastf(x0, x);
        x1 = mostf(x1, x);
        y0 = leastf(y0, y);
        y1 = mostf(y1, y);
    }
    const float w = floorf(clamp(x1, 0.0f, (float)(frame_w - 1))) - ceilf(clamp(x0, 0.0f, (float)(frame_w - 1)));
    const float h = floorf(clamp(y1, 0.0f, (float)(frame_h - 1))) - ceilf(clamp(y0, 0.0f, (float)(frame_h - 1)));
    const int mask_size = (int)sqrtf(mostf(w, 0.0f) * mostf(h, 0.0f));
    const int kernel = most(mask_size / 10, 10), blur = most(mask_size / 20, 5);
    const float low = (float)(kernel / 2), high = (float)(kernel - 1 - kernel / 2);
    const float scale = sqrtf(mostf(fabsf(m[0] * m[4] - m[1] * m[3]), 1e-12f));
    const float ux = m[0] / scale, uy = m[3] / scale, vx = m[1] / scale, vy = m[4] / scale;
    Profile p;
    p.low_u = a + inset(-ux, -uy, low, high) / scale;
    p.high_u = b - inset(ux, uy, low, high) / scale;
    p.low_v = a + inset(-vx, -vy, low, high) / scale;
    p.high_v = b - inset(vx, vy, low, high) / scale;
    p.sigma = (0.3f * (float)(blur - 1) + 0.8f) / scale;  // OpenCV's sigma for a window of 2 * blur + 1
    p.reach = ((float)blur + 0.5f) / scale;
    return p;
}

extern "C" __global__ void erode_blur_mask(
        const float* frame_from_crop, float* masks, int size, int frame_w, int frame_h) {
    __shared__ float across[SIZE_MAX_PX];
    const Profile p = profile(frame_from_crop + 6 * (int)blockIdx.z, size, frame_w, frame_h);
    for (int x = threadIdx.x; x < size; x += blockDim.x) {
        const float u = (float)x;
        across[x] = mostf(soft_step(u - p.low_u, p.sigma, p.reach) - soft_step(u - p.high_u, p.sigma, p.reach), 0.0f);
    }
    __syncthreads();
    const int y0 = blockIdx.x * MASK_ROWS;
    for (int y = y0; y < least(y0 + MASK_ROWS, size); ++y) {
        const float v = (float)y;
        const float begun = soft_step(v - p.low_v, p.sigma, p.reach), ended = soft_step(v - p.high_v, p.sigma, p.reach);
        const float down = mostf(begun - ended, 0.0f);
        float* row = masks + ((long long)blockIdx.z * size + y) * size;
        for (int x = threadIdx.x; x < size; x += blockDim.x) row[x] = across[x] * down;
    }
}

extern "C" __global__ void min_masks(Masks masks, float* out, int n) {
    const long long face = blockIdx.z;
    const int end = least((int)(blockIdx.x + 1) * 4096, n);
    for (int i = blockIdx.x * 4096 + threadIdx.x; i < end; i += blockDim.x) {
        float lowest = masks.ptr[0][face * masks.stride[0] + i];
        // Unrolled, or the array of pointers would move to local memory to be indexed.
#pragma unroll
        for (int j = 1; j < MASKS; ++j)
            if (j < masks.count) lowest = leastf(lowest, masks.ptr[j][face * masks.stride[j] + i]);
        out[face * n + i] = lowest;
    }
}
