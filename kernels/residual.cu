// What a restorer changed, kept for each track in its aligned crop and added to frames in which it does not run.
#include "device.cuh"

#define GRID 16  // samples a side that tell the brightness of a face
#define LEAF 4   // values a px of what is kept: change of Y, U and V codes, and Y as it was

// How far now may be from then: all of the change up to the first, nothing of it from the second on.
struct Fade {
    float pose_near, pose_far;    // of the eye distance, see residual_weights
    float light_near, light_far;  // codes, mean of the face
    float local_near, local_far;  // codes, at one chroma sample
};

__device__ __forceinline__ float fade(float away, float near, float far) {
    return clamp((far - away) / (far - near), 0.0f, 1.0f);
}

__device__ __forceinline__ Rgb colour_at(const float* plane, long long step, const Norm& norm) {
    const float a = clamp(plane[0] * norm.mul[0] + norm.add[0], 0.0f, 255.0f);
    const float b = clamp(plane[step] * norm.mul[1] + norm.add[1], 0.0f, 255.0f);
    const float c = clamp(plane[2 * step] * norm.mul[2] + norm.add[2], 0.0f, 255.0f);
    Rgb out;
    out.r = norm.swap ? c : a;
    out.g = b;
    out.b = norm.swap ? a : c;
    return out;
}

// One block a crop row and face. An output that is `ratio` times as wide is averaged down to the crop's px. Masks lie
// `stride` values apart, 0 where all faces share one.
extern "C" __global__ void residual_keep(
        const float* before, const float* after, const float* mask, int stride, const int* slots, const int* count,
        Colour c, Norm from_before, Norm from_after, int size, int ratio, int rooms, float* kept) {
    const int face = blockIdx.z, y = blockIdx.x, wide = size * ratio;
    if (face >= *count || slots[face] < 0 || slots[face] >= rooms) return;
    const long long plane = (long long)size * size, plane_after = (long long)wide * wide;
    const float* old_row = before + 3 * plane * face + (long long)y * size;
    const float* new_rows = after + 3 * plane_after * face + (long long)y * ratio * wide;
    const float* under = mask + (long long)stride * face + (long long)y * size;
    float* row = kept + LEAF * (plane * slots[face] + (long long)y * size);
    for (int x = threadIdx.x; x < size; x += blockDim.x) {
        const Rgb old = colour_at(old_row + x, plane, from_before);
        float r = 0.0f, g = 0.0f, b = 0.0f, sound = 0.0f;
        for (int i = 0; i < ratio * ratio; ++i) {
            const float* at = new_rows + (long long)(i / ratio) * wide + x * ratio + i % ratio;
            const Rgb p = colour_at(at, plane_after, from_after);
            sound += at[0] + at[plane_after] + at[2 * plane_after];
            r += p.r;
            g += p.g;
            b += p.b;
        }
        // A value that is no number changes nothing: a spoilt output must not paint a face black.
        const float share = is_finite(sound) ? under[x] : 0.0f;
        const float part = 1.0f / (float)(ratio * ratio);
        Rgb change;
        change.r = share * (r * part - old.r);
        change.g = share * (g * part - old.g);
        change.b = share * (b * part - old.b);
        const float luma = luma_of(c, change);
        row[LEAF * x] = luma * c.y_of;
        row[LEAF * x + 1] = (change.b - luma) * c.u_of;
        row[LEAF * x + 2] = (change.r - luma) * c.v_of;
        row[LEAF * x + 3] = y_of(c, luma_of(c, old));
    }
}

__device__ __forceinline__ float kept_at(const float* kept, const Taps& t, int value) {
    return kept[LEAF * t.a + value] * t.wa + kept[LEAF * t.b + value] * t.wb + kept[LEAF * t.c + value] * t.wc +
           kept[LEAF * t.d + value] * t.wd;
}

// One block a face: is what is kept in its slot its own, and how much of it still holds?
extern "C" __global__ void __launch_bounds__(256) residual_weights(
        Frame f, const float* points, const int* slots, const int* track_ids, const int* count,
        const float* crop_from_frame, const float* frame_from_crop, const float* kept, int size, float eye_px,
        Fade limits, int fresh, int rooms, float* poses, int* owners, float* weights) {
    __shared__ float part[GRID * GRID];
    const int face = blockIdx.z;
    if (face >= *count || slots[face] < 0 || slots[face] >= rooms) {
        if (threadIdx.x == 0) weights[face] = 0.0f;
        return;
    }
    const int slot = slots[face];
    const float *m = crop_from_frame + 6 * face, *back = frame_from_crop + 6 * face;
    const float* own = kept + (long long)LEAF * size * size * slot;
    for (int i = threadIdx.x; i < GRID * GRID; i += blockDim.x) {
        // The middle half of the crop: skin, whatever hair and background do.
        const float u = (float)size * (0.25f + 0.5f * ((float)(i % GRID) + 0.5f) / (float)GRID);
        const float v = (float)size * (0.25f + 0.5f * ((float)(i / GRID) + 0.5f) / (float)GRID);
        const float x = back[0] * u + back[1] * v + back[2], y = back[3] * u + back[4] * v + back[5];
        const Taps now = taps_at(x, y, f.width, f.height, f.y_pitch, 1);
        const Taps then = taps_at(u, v, size, size, size, 1);
        part[i] = f.y[now.a] * now.wa + f.y[now.b] * now.wb + f.y[now.c] * now.wc + f.y[now.d] * now.wd -
                  kept_at(own, then, 3);
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    float light = 0.0f;
    for (int i = 0; i < GRID * GRID; ++i) light += part[i];
    light = fabsf(light) / (float)(GRID * GRID);
    const float scale = sqrtf(mostf(fabsf(m[0] * m[4] - m[1] * m[3]), 1e-12f));
    float* pose = poses + 12 * slot;
    const float* p = points + 10 * face;
    float moved = 0.0f;
    for (int i = 0; i < 5; ++i) {
        const float u = m[0] * p[2 * i] + m[1] * p[2 * i + 1] + m[2];
        const float v = m[3] * p[2 * i] + m[4] * p[2 * i + 1] + m[5];
        const float du = u - pose[2 * i], dv = v - pose[2 * i + 1];
        moved += 0.2f * (du * du + dv * dv);
        if (fresh) {
            pose[2 * i] = u;
            pose[2 * i + 1] = v;
        }
    }
    const float away = sqrtf(moved) / eye_px + fabsf(logf(scale / mostf(pose[10], 1e-6f)));
    const bool mine = owners[slot] == track_ids[face];
    if (fresh) {
        pose[10] = scale;
        owners[slot] = track_ids[face];
    }
    const float held = fade(away, limits.pose_near, limits.pose_far) * fade(light, limits.light_near, limits.light_far);
    weights[face] = fresh ? 1.0f : (mine ? held : 0.0f);
}

struct Kept {
    const float *values, *m;  // of one face: what is kept, crop_from_frame
    int size;
};

// One value of the change at a frame coordinate, fading over a px beyond the crop.
__device__ __forceinline__ float change_at(const Kept& k, float x, float y, int value) {
    const float u = k.m[0] * x + k.m[1] * y + k.m[2], v = k.m[3] * x + k.m[4] * y + k.m[5];
    return kept_at(k.values, taps_at(u, v, k.size, k.size, k.size, 1), value) * cover(u, k.size) * cover(v, k.size);
}

// One block a pair of luma rows and their chroma row; a lane owns whole chroma samples with the luma px round them,
// so that what it compares is what was there before.
extern "C" __global__ void residual_add(
        Frame f, const float* kept, const int* slots, const float* weights, const float* crop_from_frame,
        const int* rectangles, int k, int size, Fade limits, float blend, int rooms) {
    const int cy = blockIdx.x, top = 2 * cy, low = least(top + 1, f.height - 1), lanes = blockDim.x;
    u8 *upper = f.y + (long long)top * f.y_pitch, *lower = f.y + (long long)low * f.y_pitch;
    u8* chroma = f.uv + (long long)cy * f.uv_pitch;
    for (int face = 0; face < k; ++face) {
        const int* r = rectangles + 4 * face;
        const float weight = weights[face] * blend;
        if (top < r[1] || top >= r[3] || !(weight > 0.0f) || slots[face] < 0 || slots[face] >= rooms) continue;
        Kept own;
        own.values = kept + (long long)LEAF * size * size * slots[face];
        own.m = crop_from_frame + 6 * face;
        own.size = size;
        // Counted from column 0, so that a sample has the same lane for every face.
        const int from = r[0] / 2, lane = threadIdx.x;
        for (int cx = (from + lanes - 1 - lane) / lanes * lanes + lane; cx < (r[2] + 1) / 2; cx += lanes) {
            const int x = 2 * cx, right = least(x + 1, f.width - 1);
            const float now = 0.25f * ((float)upper[x] + (float)upper[right] + (float)lower[x] + (float)lower[right]);
            const float mu = (float)x + 0.5f, mv = (float)top + 0.5f;
            const float u = own.m[0] * mu + own.m[1] * mv + own.m[2], v = own.m[3] * mu + own.m[4] * mv + own.m[5];
            const float then = kept_at(own.values, taps_at(u, v, size, size, size, 1), 3);
            const float part = weight * fade(fabsf(now - then), limits.local_near, limits.local_far);
            if (!(part > 0.0f)) continue;
            const float chroma_x = 2.0f * ((float)cx - f.colour.cx0);
            chroma[x] = code((float)chroma[x] + part * change_at(own, chroma_x, mv, 1));
            chroma[x + 1] = code((float)chroma[x + 1] + part * change_at(own, chroma_x, mv, 2));
            for (int y = top; y <= low; ++y) {
                u8* row = y == top ? upper : lower;
                for (int at = x; at <= right; ++at)
                    row[at] = code((float)row[at] + part * change_at(own, (float)at, (float)y, 0));
            }
        }
    }
}
