// What networks say of a crop's pixels, as soft masks: the face is seen, or a pixel is of a class that is kept.
#include "device.cuh"

#define BLUR_HALF 512
#define ROW_MAX 2048

#define KIND_CLASSES 0
#define KIND_FACE 1
#define KIND_LOGIT 2

// One block a crop row and face, as `crop`; channels lie side by side.
extern "C" __global__ void crop_nhwc(
        Frame f, const float* frame_from_crop, float* out, int width, int height, Norm norm, int black) {
    const float* m = frame_from_crop + 6 * (int)blockIdx.z;
    const int y = blockIdx.x;
    float* row = out + 3 * ((long long)blockIdx.z * height + y) * width;
    const float ax = m[0], bx = m[1] * (float)y + m[2], ay = m[3], by = m[4] * (float)y + m[5];
    for (int x = threadIdx.x; x < width; x += blockDim.x) {
        const float fx = ax * (float)x + bx, fy = ay * (float)x + by;
        Rgb p = sample(f, fx, fy);
        if (black) {
            const float inside = cover(fx, f.width) * cover(fy, f.height);
            p.r *= inside;
            p.g *= inside;
            p.b *= inside;
        }
        store(norm, p, row + 3 * x, row + 3 * x + 1, row + 3 * x + 2);
    }
}

// Matrices of a crop of another size over the same square: borders of both meet, so centres move by half a px.
extern "C" __global__ void rescale_matrices(const float* from, float* to, float ratio, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const float* m = from + 6 * i;
        float* out = to + 6 * i;
        const float shift = 0.5f * ratio - 0.5f;
        for (int row = 0; row < 2; ++row) {
            out[3 * row] = m[3 * row] * ratio;
            out[3 * row + 1] = m[3 * row + 1] * ratio;
            out[3 * row + 2] = m[3 * row + 2] + (m[3 * row] + m[3 * row + 1]) * shift;
        }
    }
}

// The place of sample i of `out` among n samples, borders of both meeting.
__device__ __forceinline__ Tap resized(int i, int out, int n) {
    return tap(((float)i + 0.5f) * ((float)n / (float)out) - 0.5f, n);
}

// Faces as one network leaves them to the size, range and order of another. One block a row and face.
extern "C" __global__ void rescale_faces(
        const float* faces, float* out, int width, int height, int out_w, int out_h, Norm from, Norm norm, int nhwc) {
    const int y = blockIdx.x;
    const long long face = blockIdx.z, plane = (long long)width * height, out_plane = (long long)out_w * out_h;
    const float* source = faces + 3 * plane * face;
    const Tap ty = resized(y, out_h, height);
    const float *top = source + (long long)ty.low * width, *bottom = source + (long long)ty.high * width;
    float* to = out + 3 * out_plane * face + (long long)y * out_w * (nhwc ? 3 : 1);
    for (int x = threadIdx.x; x < out_w; x += blockDim.x) {
        const Tap tx = resized(x, out_w, width);
        float value[3];
        for (int c = 0; c < 3; ++c) {
            const float a = mix(top[c * plane + tx.low], top[c * plane + tx.high], tx.part);
            const float b = mix(bottom[c * plane + tx.low], bottom[c * plane + tx.high], tx.part);
            value[c] = clamp(mix(a, b, ty.part) * from.mul[c] + from.add[c], 0.0f, 255.0f);
        }
        Rgb p;
        p.r = from.swap ? value[2] : value[0];
        p.g = value[1];
        p.b = from.swap ? value[0] : value[2];
        if (nhwc)
            store(norm, p, to + 3 * x, to + 3 * x + 1, to + 3 * x + 2);
        else
            store(norm, p, to + x, to + out_plane + x, to + 2 * out_plane + x);
    }
}

// A network's scores to 0..1 for each of its pixels. Of equal logits the first class counts, as argmax does.
extern "C" __global__ void seen_pixels(
        const float* scores, float* seen, int n, int channels, int kind, int keep, float zero_below) {
    const long long face = blockIdx.z;
    const float* from = scores + face * channels * n;
    const int end = least((int)(blockIdx.x + 1) * 1024, n);
    for (int i = blockIdx.x * 1024 + threadIdx.x; i < end; i += blockDim.x) {
        float value;
        if (kind == KIND_CLASSES) {
            int best = 0;
            float most_so_far = from[i];
            for (int c = 1; c < channels; ++c) {
                const float logit = from[(long long)c * n + i];
                if (logit > most_so_far) {
                    most_so_far = logit;
                    best = c;
                }
            }
            value = (keep >> best) & 1 ? 1.0f : 0.0f;
        } else if (kind == KIND_FACE) {
            value = clamp(from[i], 0.0f, 1.0f);
            if (value < zero_below) value = 0.0f;
        } else {
            value = from[i] > 0.0f ? 1.0f : 0.0f;
        }
        seen[face * n + i] = value;
    }
}

__device__ __forceinline__ int mirrored(int i, int n) {
    if (i < 0) i = -i;
    return i >= n ? 2 * (n - 1) - i : i;
}

// Weights of a Gaussian window that add up to 1.
__device__ void gaussian(float* weights, float sigma, int half) {
    for (int i = threadIdx.x; i <= 2 * half; i += blockDim.x) {
        const float d = (float)(i - half) / sigma;
        weights[i] = expf(-0.5f * d * d);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int i = 0; i <= 2 * half; ++i) sum += weights[i];
        for (int i = 0; i <= 2 * half; ++i) weights[i] /= sum;
    }
    __syncthreads();
}

// A mask of another size to the crop's, then blurred along its rows. One block a row of the crop and face.
extern "C" __global__ void soften_rows(
        const float* seen, float* out, int width, int height, int size, float sigma, int half) {
    __shared__ float weights[2 * BLUR_HALF + 1], row[ROW_MAX];
    gaussian(weights, sigma, half);
    const int y = blockIdx.x;
    const long long face = blockIdx.z;
    const Tap ty = resized(y, size, height);
    const float* source = seen + face * width * height;
    const float *top = source + (long long)ty.low * width, *bottom = source + (long long)ty.high * width;
    for (int x = threadIdx.x; x < size; x += blockDim.x) {
        const Tap tx = resized(x, size, width);
        row[x] = mix(mix(top[tx.low], top[tx.high], tx.part), mix(bottom[tx.low], bottom[tx.high], tx.part), ty.part);
    }
    __syncthreads();
    float* to = out + (face * size + y) * size;
    for (int x = threadIdx.x; x < size; x += blockDim.x) {
        float sum = 0.0f;
        for (int d = -half; d <= half; ++d) sum += weights[d + half] * row[mirrored(x + d, size)];
        to[x] = sum;
    }
}

// Then along its columns, and low..high stretched to 0..1. One block a row and face; rows are read side by side.
extern "C" __global__ void soften_columns(
        const float* rows, float* masks, int size, float sigma, int half, float low, float high) {
    __shared__ float weights[2 * BLUR_HALF + 1], sums[ROW_MAX];
    gaussian(weights, sigma, half);
    const int y = blockIdx.x;
    const long long face = blockIdx.z;
    const float* source = rows + face * size * size;
    for (int x = threadIdx.x; x < size; x += blockDim.x) sums[x] = 0.0f;
    for (int d = -half; d <= half; ++d) {
        const float w = weights[d + half];
        const float* __restrict__ from = source + (long long)mirrored(y + d, size) * size;
        for (int x = threadIdx.x; x < size; x += blockDim.x) sums[x] += w * from[x];
    }
    float* to = masks + (face * size + y) * size;
    for (int x = threadIdx.x; x < size; x += blockDim.x) to[x] = (clamp(sums[x], low, high) - low) / (high - low);
}
