// From detections to the frame's Faces. One block: at most 64 detections and 64 tracks.
#include "device.cuh"

#define TRACKS 64
#define GAIN 0.5f  // how much of a surprise in position becomes velocity

struct Tracks {
    int *ids, *active, *ages, *misses;
    float *boxes, *points, *velocities, *scores;
    int *sources, *selected;
    float *smooth_points, *smooth_velocities;
    int *smooth_ids, *words;
    int room;
};

struct Faces {
    float *boxes, *points, *scores;
    int *track_ids, *slots, *sources, *count, *status;
    int room;
};

struct Rules {
    float iou_min, centre_max, damping;
    int max_misses, select, detected;
};

// Values of Rules::select, in the order of SELECT in launch_track.py.
#define SELECT_ALL 0
#define SELECT_LARGEST 1
#define LARGEST_KEEPS 1.2f  // of its area more than another must have to take the place of one that is shown
#define SELECT_LEFTMOST 2
#define SELECT_MARKED 3

struct Five {
    int first[5], last[5];
};

__device__ __forceinline__ float area(const float* b) { return mostf(b[2] - b[0], 0.0f) * mostf(b[3] - b[1], 0.0f); }

// How well a detection continues a track: 1 + IoU when they overlap enough, below 1 when only the centres are near
// and the sizes alike, 0 for not at all.
__device__ __forceinline__ float affinity(const float* a, const float* b, const Rules& rules) {
    const float w = mostf(leastf(a[2], b[2]) - mostf(a[0], b[0]), 0.0f);
    const float h = mostf(leastf(a[3], b[3]) - mostf(a[1], b[1]), 0.0f);
    const float area_a = area(a), area_b = area(b), small = leastf(area_a, area_b), large = mostf(area_a, area_b);
    if (!(small > 0.0f)) return 0.0f;
    const float iou = w * h / (area_a + area_b - w * h);
    if (iou >= rules.iou_min) return 1.0f + iou;
    const float dx = 0.5f * (a[0] + a[2] - b[0] - b[2]), dy = 0.5f * (a[1] + a[3] - b[1] - b[3]);
    const float apart = sqrtf((dx * dx + dy * dy) / small);
    return apart < rules.centre_max && large < 4.0f * small ? 1.0f - apart : 0.0f;
}

__device__ __forceinline__ void shift(const Tracks& t, int slot, float dx, float dy) {
    for (int i = 0; i < 4; ++i) t.boxes[4 * slot + i] += i & 1 ? dy : dx;
    for (int i = 0; i < 10; ++i) t.points[10 * slot + i] += i & 1 ? dy : dx;
}

// A track takes over a detection's box, points and score; velocity learns from where it was expected.
__device__ __forceinline__ void take(const Tracks& t, int slot, const float* box, const float* points, float score) {
    float* to = t.boxes + 4 * slot;
    const float frames = (float)(t.misses[slot] + 1);
    t.velocities[2 * slot] += GAIN * 0.5f * (box[0] + box[2] - to[0] - to[2]) / frames;
    t.velocities[2 * slot + 1] += GAIN * 0.5f * (box[1] + box[3] - to[1] - to[3]) / frames;
    for (int i = 0; i < 4; ++i) to[i] = box[i];
    for (int i = 0; i < 10; ++i) t.points[10 * slot + i] = points[i];
    t.scores[slot] = score;
    t.misses[slot] = 0;
}

// Which detection each track takes, best score first; -1 for none. Then what ends, and where the rest begins.
__device__ void match(
        const Tracks& t, const Rules& rules, const float* affinities, int detections, int* taken, int* begun,
        int* lost) {
    for (int d = 0; d < detections; ++d) {
        int best = -1;
        float most_alike = 0.0f;
        for (int s = 0; s < t.room; ++s)
            if (taken[s] < 0 && affinities[d * TRACKS + s] > most_alike) {
                most_alike = affinities[d * TRACKS + s];
                best = s;
            }
        begun[d] = best < 0 ? 1 : 0;
        if (best >= 0) taken[best] = d;
    }
    for (int s = 0; s < t.room; ++s)
        if (t.active[s] && taken[s] < 0 && t.misses[s] >= rules.max_misses) t.active[s] = 0;
    int slot = 0;
    for (int d = 0; d < detections; ++d) {
        if (!begun[d]) continue;
        while (slot < t.room && t.active[slot]) ++slot;
        if (slot == t.room) {
            ++*lost;
            continue;
        }
        t.active[slot] = 1;
        t.ids[slot] = ++t.words[0];
        t.ages[slot] = 0;
        taken[slot] = d;
    }
}

__device__ void write_face(const Faces& f, const Tracks& t, int row, int slot) {
    const bool some = slot >= 0;
    for (int i = 0; i < 4; ++i) f.boxes[4 * row + i] = some ? t.boxes[4 * slot + i] : 0.0f;
    for (int i = 0; i < 10; ++i) f.points[10 * row + i] = some ? t.points[10 * slot + i] : 0.0f;
    f.scores[row] = some ? t.scores[slot] : 0.0f;
    f.track_ids[row] = some ? t.ids[slot] : 0;
    f.slots[row] = some ? slot : 0;
    f.sources[row] = some ? t.sources[slot] : 0;
}

extern "C" __global__ void track(
        const int* counters, const float* det_boxes, const float* det_points, const float* det_scores,
        const int* det_count, const float* best_score, const int* cut_words, const int* source_of_slot, Tracks t,
        Faces f, Rules rules) {
    __shared__ float affinities[TRACKS * TRACKS], rank_by[TRACKS];
    __shared__ int taken[TRACKS], begun[TRACKS], row_of[TRACKS], slot_of[TRACKS];
    __shared__ int lost, births, alive, wanted;
    // the cut word is the last detection's: a frame without one begins no scene
    const int cut = rules.detected ? cut_words[1] : 0, n = rules.detected ? least(*det_count, TRACKS) : 0;
    // what is shown stays: two faces of nearly one size would else take turns where there is room for one
    const bool by_size = rules.select == SELECT_LARGEST || rules.select == SELECT_ALL;
    if (threadIdx.x == 0) lost = births = alive = wanted = 0;
    for (int s = threadIdx.x; s < t.room; s += blockDim.x) {
        if (cut) t.active[s] = 0;
        if (t.active[s]) shift(t, s, t.velocities[2 * s], t.velocities[2 * s + 1]);
        taken[s] = -1;
        row_of[s] = slot_of[s] = -1;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n * t.room; i += blockDim.x) {
        const int d = i / t.room, s = i % t.room;
        affinities[d * TRACKS + s] = t.active[s] ? affinity(det_boxes + 4 * d, t.boxes + 4 * s, rules) : 0.0f;
    }
    __syncthreads();
    if (threadIdx.x == 0 && rules.detected) match(t, rules, affinities, n, taken, begun, &lost);
    __syncthreads();

    for (int s = threadIdx.x; s < t.room; s += blockDim.x) {
        if (!t.active[s]) continue;
        const int d = taken[s];
        if (t.ages[s] == 0) {
            for (int i = 0; i < 4; ++i) t.boxes[4 * s + i] = det_boxes[4 * d + i];
            t.velocities[2 * s] = t.velocities[2 * s + 1] = 0.0f;
            t.misses[s] = t.selected[s] = 0;
            t.sources[s] = source_of_slot[s];
            atomicAdd(&births, 1);
        }
        if (d >= 0) {
            take(t, s, det_boxes + 4 * d, det_points + 10 * d, det_scores[d]);
        } else {
            ++t.misses[s];
            const float keep = rules.detected ? rules.damping : 1.0f;
            t.velocities[2 * s] *= keep;
            t.velocities[2 * s + 1] *= keep;
        }
        ++t.ages[s];
        atomicAdd(&alive, 1);
        if (t.sources[s] < 0 || (rules.select == SELECT_MARKED && !t.selected[s])) continue;
        row_of[s] = 0;
        rank_by[s] = rules.select == SELECT_LEFTMOST ? -t.boxes[4 * s] : area(t.boxes + 4 * s);
        if (by_size && t.selected[s]) rank_by[s] *= LARGEST_KEEPS;
        atomicAdd(&wanted, 1);
    }
    __syncthreads();

    // Of the chosen, the first `limit` by rank stay, in order of slot.
    const bool one = rules.select == SELECT_LARGEST || rules.select == SELECT_LEFTMOST;
    const int limit = one ? 1 : f.room;
    for (int s = threadIdx.x; s < t.room; s += blockDim.x) {
        if (by_size && row_of[s] < 0) t.selected[s] = 0;
        if (row_of[s] < 0) continue;
        int rank = 0;
        for (int o = 0; o < t.room; ++o)
            if (row_of[o] >= 0 && (rank_by[o] > rank_by[s] || (rank_by[o] == rank_by[s] && o < s))) ++rank;
        slot_of[s] = rank < limit ? 1 : -1;
        if (by_size) t.selected[s] = slot_of[s] > 0 ? 1 : 0;
    }
    __syncthreads();
    for (int s = threadIdx.x; s < t.room; s += blockDim.x) {
        int row = 0;
        for (int o = 0; o < s; ++o)
            if (slot_of[o] > 0) ++row;
        if (slot_of[s] > 0) write_face(f, t, row, s);
    }
    const int count = least(wanted, limit);
    for (int row = count + threadIdx.x; row < f.room; row += blockDim.x) write_face(f, t, row, -1);
    if (threadIdx.x == 0) {
        *f.count = count;
        f.status[0] = count;
        f.status[1] = cut;
        f.status[2] = births;
        f.status[3] = (counters[1] > 0 ? 1 : 0) | (lost > 0 ? 2 : 0) | (!one && wanted > f.room ? 4 : 0);
        f.status[4] = n;
        f.status[5] = alive;
        f.status[6] = __float_as_int(*best_score);
        f.status[7] = ++t.words[1];
    }
}

// One block a face row.
extern "C" __global__ void refine_points(
        const float* points_crop, const float* frame_from_crop, Tracks t, Faces f, Five five, int n, float scale,
        float offset, float* points_frame) {
    const int row = blockIdx.x;
    if (row >= *f.count) return;
    const float* m = frame_from_crop + 6 * row;
    const float* p = points_crop + (long long)2 * n * row;
    if (points_frame)
        for (int i = threadIdx.x; i < n; i += blockDim.x) {
            const float u = p[2 * i] * scale + offset, v = p[2 * i + 1] * scale + offset;
            float* to = points_frame + 2 * ((long long)n * row + i);
            to[0] = m[0] * u + m[1] * v + m[2];
            to[1] = m[3] * u + m[4] * v + m[5];
        }
    if (threadIdx.x != 0) return;
    __shared__ float xy[10];
    float dx = 0.0f, dy = 0.0f;
    float* old = f.points + 10 * row;
    for (int i = 0; i < 5; ++i) {
        float u = 0.0f, v = 0.0f;
        for (int j = five.first[i]; j <= five.last[i]; ++j) {
            u += p[2 * j];
            v += p[2 * j + 1];
        }
        const float share = scale / (float)(five.last[i] - five.first[i] + 1);
        u = u * share + offset;
        v = v * share + offset;
        xy[2 * i] = m[0] * u + m[1] * v + m[2];
        xy[2 * i + 1] = m[3] * u + m[4] * v + m[5];
        dx += 0.2f * (xy[2 * i] - old[2 * i]);
        dy += 0.2f * (xy[2 * i + 1] - old[2 * i + 1]);
    }
    if (!is_finite(dx + dy)) return;
    const int slot = f.slots[row];
    shift(t, slot, dx, dy);
    t.velocities[2 * slot] += GAIN * dx;
    t.velocities[2 * slot + 1] += GAIN * dy;
    for (int i = 0; i < 4; ++i) f.boxes[4 * row + i] = t.boxes[4 * slot + i];
    for (int i = 0; i < 10; ++i) old[i] = t.points[10 * slot + i] = xy[i];
}

extern "C" __global__ void smooth_points(Tracks t, Faces f, float min_cutoff, float beta, float velocity_alpha) {
    for (int row = threadIdx.x; row < *f.count; row += blockDim.x) {
        const int slot = f.slots[row], id = f.track_ids[row];
        float* p = f.points + 10 * row;
        float* last = t.smooth_points + 10 * slot;
        float* velocity = t.smooth_velocities + 10 * slot;
        if (t.smooth_ids[slot] != id) {
            for (int i = 0; i < 10; ++i) {
                last[i] = p[i];
                velocity[i] = 0.0f;
            }
            t.smooth_ids[slot] = id;
            continue;
        }
        float x = 0.0f, y = 0.0f, spread = 0.0f, speed = 0.0f;
        for (int i = 0; i < 5; ++i) {
            x += 0.2f * p[2 * i];
            y += 0.2f * p[2 * i + 1];
        }
        for (int i = 0; i < 10; ++i) {
            const float away = p[i] - (i & 1 ? y : x);
            spread += away * away;
            velocity[i] = mix(velocity[i], p[i] - last[i], velocity_alpha);
            speed += velocity[i] * velocity[i];
        }
        // A face shrunk to a point has no size to compare with: it passes as it is.
        const float cutoff = min_cutoff + beta * sqrtf(speed / mostf(spread, 1e-6f));
        const float part = 1.0f / (1.0f + 1.0f / (6.2831853f * cutoff));
        for (int i = 0; i < 10; ++i) p[i] = last[i] = mix(last[i], p[i], part);
    }
}
