// What a C++ compiler needs to read CUDA C++: the qualifiers defined away, the built-in variables and
// __syncthreads provided, and run(), which walks over the blocks of a grid.
//
// Three builds of the same kernels (compile.py, sanitize.py):
//   default                 one lane a block, known to the compiler, so that loops which stride by blockDim become
//                           plain loops and vectorise; OpenMP over blocks
//   FACE_SANITIZE_LANES     real threads as lanes and a real barrier, blocks one after another: finds what a
//                           missing __syncthreads would do
//   FACE_SANITIZE_BLOCKS    one lane a block, blocks on real threads: finds blocks that write the same bytes
#pragma once

#include <cmath>
#include <cstring>

#define __global__ inline
#define __device__ static inline
#define __forceinline__ __attribute__((always_inline))
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct uint3_host {
    int x, y, z;
};

static thread_local uint3_host blockIdx, gridDim;

static inline int __float_as_int(float value) {
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int atomicAdd(int* at, int value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }

static inline int atomicMax(int* at, int value) {
    int old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}

#if defined(FACE_SANITIZE_LANES)

#include <barrier>
#include <thread>
#include <vector>

#define __shared__ static
static thread_local uint3_host threadIdx;
static uint3_host blockDim;
static std::barrier<>* face_barrier;
static inline void __syncthreads() { face_barrier->arrive_and_wait(); }

template <class Body>
static void run(int gx, int gy, int gz, int /*threads*/, const Body& body) {
    // Fewer lanes than a GPU block has, and not a power of two: strides that forget a remainder show.
    const int lanes = FACE_SANITIZE_LANES;
    for (int block = 0; block < gx * gy * gz; ++block) {
        std::barrier<> barrier(lanes);
        face_barrier = &barrier;
        blockDim = {lanes, 1, 1};
        std::vector<std::thread> pool;
        for (int lane = 0; lane < lanes; ++lane)
            pool.emplace_back([&, lane] {
                threadIdx = {lane, 0, 0};
                gridDim = {gx, gy, gz};
                blockIdx = {block % gx, block / gx % gy, block / gx / gy};
                body();
            });
        for (auto& thread : pool) thread.join();
    }
}

#else

#define __shared__
static constexpr uint3_host threadIdx{0, 0, 0}, blockDim{1, 1, 1};
static inline void __syncthreads() {}

#if defined(FACE_SANITIZE_BLOCKS)

#include <thread>
#include <vector>

template <class Body>
static void run(int gx, int gy, int gz, int /*threads*/, const Body& body) {
    // Dealt out, not taken from a queue: neighbouring blocks are on different threads even when one is quick.
    const int threads = FACE_SANITIZE_BLOCKS;
    std::vector<std::thread> pool;
    for (int first = 0; first < threads; ++first)
        pool.emplace_back([&, first] {
            gridDim = {gx, gy, gz};
            for (int block = first; block < gx * gy * gz; block += threads) {
                blockIdx = {block % gx, block / gx % gy, block / gx / gy};
                body();
            }
        });
    for (auto& thread : pool) thread.join();
}

#else

template <class Body>
static void run(int gx, int gy, int gz, int threads, const Body& body) {
    const int blocks = gx * gy * gz;
    // A few portions a thread: other work on the machine may hold one thread up.
    const int portion = blocks / (threads * 8) > 1 ? blocks / (threads * 8) : 1;
#pragma omp parallel for schedule(dynamic, portion) num_threads(threads) if (threads > 1 && blocks > 1)
    for (int block = 0; block < blocks; ++block) {
        gridDim = {gx, gy, gz};
        blockIdx = {block % gx, block / gx % gy, block / gx / gy};
        body();
    }
}

#endif
#endif
