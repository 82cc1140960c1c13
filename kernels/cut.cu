// Whether a new scene began: the detector's input as 64x64 luma cells against the last one's. One block.
#include "device.cuh"

#define CELLS 64

extern "C" __global__ void __launch_bounds__(512) cut_score(
        const float* input, int width, int height, int new_w, int new_h, Norm norm, int threshold, u8* thumbnail,
        int* words) {
    __shared__ int total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();
    const long long plane = (long long)width * height;
    int sum = 0;
    for (int cell = threadIdx.x; cell < CELLS * CELLS; cell += blockDim.x) {
        // Four samples a cell, the middles of its quarters: enough against noise, and a tenth of the reading.
        float luma = 0.0f;
        for (int i = 0; i < 4; ++i) {
            const int x = (4 * (cell % CELLS) + 1 + 2 * (i & 1)) * new_w / (4 * CELLS);
            const int y = (4 * (cell / CELLS) + 1 + 2 * (i >> 1)) * new_h / (4 * CELLS);
            const float* at = input + (long long)y * width + x;
            const float a = at[0] * norm.mul[0] + norm.add[0];
            const float b = at[plane] * norm.mul[1] + norm.add[1];
            const float c = at[2 * plane] * norm.mul[2] + norm.add[2];
            luma += 0.25f * (0.299f * (norm.swap ? c : a) + 0.587f * b + 0.114f * (norm.swap ? a : c));
        }
        const u8 level = code(luma);
        sum += level > thumbnail[cell] ? level - thumbnail[cell] : thumbnail[cell] - level;
        thumbnail[cell] = level;
    }
    atomicAdd(&total, sum);
    __syncthreads();
    if (threadIdx.x == 0) {
        words[1] = words[0] == 0 || total > threshold ? 1 : 0;
        words[2] = total;
        ++words[0];
    }
}
