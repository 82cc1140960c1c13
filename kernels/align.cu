// Between frame and crop: matrices from five points or a box, crops of k faces, rows of a table by face.
#include "device.cuh"

#define FITTED 0
#define DEGENERATE 1
#define NO_FACE 2

struct Template {
    float xy[10];
};

// An affine map and its inverse, from the 2x2 part and one pair of points that meet (better conditioned than a
// far-away origin).
__device__ __forceinline__ void write_maps(
        float* forward, float* back, float a, float b, float c, float d, float px, float py, float qx, float qy) {
    const float det = a * d - b * c;
    forward[0] = a;
    forward[1] = b;
    forward[2] = qx - (a * px + b * py);
    forward[3] = c;
    forward[4] = d;
    forward[5] = qy - (c * px + d * py);
    back[0] = d / det;
    back[1] = -b / det;
    back[2] = px - (d * qx - b * qy) / det;
    back[3] = -c / det;
    back[4] = a / det;
    back[5] = py - (a * qy - c * qx) / det;
}

extern "C" __global__ void similarity(
        const float* points, const int* count, Template to, float* crop_from_frame, float* frame_from_crop,
        int* flags, int k) {
    for (int face = threadIdx.x; face < k; face += blockDim.x) {
        const float* p = points + 10 * face;
        float px = 0.0f, py = 0.0f, qx = 0.0f, qy = 0.0f;
        for (int i = 0; i < 5; ++i) {
            px += 0.2f * p[2 * i];
            py += 0.2f * p[2 * i + 1];
            qx += 0.2f * to.xy[2 * i];
            qy += 0.2f * to.xy[2 * i + 1];
        }
        // As complex numbers around their means: the factor is sum(conj(p) q) / sum(|p|^2).
        float spread = 0.0f, real = 0.0f, imaginary = 0.0f;
        for (int i = 0; i < 5; ++i) {
            const float x = p[2 * i] - px, y = p[2 * i + 1] - py;
            const float u = to.xy[2 * i] - qx, v = to.xy[2 * i + 1] - qy;
            spread += x * x + y * y;
            real += x * u + y * v;
            imaginary += x * v - y * u;
        }
        int flag = FITTED;
        real /= spread;
        imaginary /= spread;
        // A spread below a hundredth of a px is one point; a factor of nearly 0 has no inverse.
        if (!(spread > 1e-4f) || !is_finite(real + imaginary) || real * real + imaginary * imaginary < 1e-8f) {
            flag = DEGENERATE;
            real = 1.0f;
            imaginary = 0.0f;
            if (!is_finite(px + py)) px = qx, py = qy;
        }
        if (face >= *count) {
            flag = NO_FACE;
            real = 1.0f;
            imaginary = px = py = qx = qy = 0.0f;
        }
        write_maps(crop_from_frame + 6 * face, frame_from_crop + 6 * face, real, -imaginary, imaginary, real, px, py,
                   qx, qy);
        flags[face] = flag;
    }
}

extern "C" __global__ void box_matrix(
        const float* boxes, const int* count, int width, int height, float expand, int keep_aspect,
        float* crop_from_frame, float* frame_from_crop, int* flags, int k) {
    for (int face = threadIdx.x; face < k; face += blockDim.x) {
        const float* box = boxes + 4 * face;
        const float w = (box[2] - box[0]) * expand, h = (box[3] - box[1]) * expand;
        float sx = (float)width / w, sy = (float)height / h;
        if (keep_aspect) sx = sy = (float)least(width, height) / mostf(w, h);
        // Middles of box and crop meet; edges are half a px outside the first and last centre.
        float px = 0.5f * (box[0] + box[2]) - 0.5f, py = 0.5f * (box[1] + box[3]) - 0.5f;
        float qx = 0.5f * (float)width - 0.5f, qy = 0.5f * (float)height - 0.5f;
        int flag = FITTED;
        if (!(w > 0.01f && h > 0.01f) || !is_finite(px + py + sx + sy)) {
            flag = DEGENERATE;
            sx = sy = 1.0f;
            if (!is_finite(px + py)) px = qx, py = qy;
        }
        if (face >= *count) {
            flag = NO_FACE;
            sx = sy = 1.0f;
            px = py = qx = qy = 0.0f;
        }
        write_maps(crop_from_frame + 6 * face, frame_from_crop + 6 * face, sx, 0.0f, 0.0f, sy, px, py, qx, qy);
        flags[face] = flag;
    }
}

// One block a crop row and face.
extern "C" __global__ void crop(
        Frame f, const float* frame_from_crop, float* out, int width, int height, Norm norm, int constant,
        Rgb border) {
    const float* m = frame_from_crop + 6 * (int)blockIdx.z;
    const int y = blockIdx.x;
    const long long plane = (long long)width * height;
    float* row = out + 3 * plane * blockIdx.z + (long long)y * width;
    const float ax = m[0], bx = m[1] * (float)y + m[2], ay = m[3], by = m[4] * (float)y + m[5];
    for (int x = threadIdx.x; x < width; x += blockDim.x) {
        const float fx = ax * (float)x + bx, fy = ay * (float)x + by;
        Rgb p = sample(f, fx, fy);
        if (constant) {
            const float inside = cover(fx, f.width) * cover(fy, f.height);
            p.r = p.r * inside + border.r * (1.0f - inside);
            p.g = p.g * inside + border.g * (1.0f - inside);
            p.b = p.b * inside + border.b * (1.0f - inside);
        }
        store(norm, p, row + x, row + plane + x, row + 2 * plane + x);
    }
}

extern "C" __global__ void gather_rows(const float* table, const int* rows, float* out, int table_rows, int n) {
    const int row = rows[blockIdx.x];
    const bool known = row >= 0 && row < table_rows;
    const float* from = table + (long long)row * n;
    float* to = out + (long long)blockIdx.x * n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) to[i] = known ? from[i] : 0.0f;
}
