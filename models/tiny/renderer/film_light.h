// Key, sky, floor and rim light, and how skin, eyes, hair and cloth answer them. Colours are linear (display squared).
#pragma once

#include "film_math.h"
#include "film_params.h"

namespace film {

struct Vec {
  float x, y, z;
};
static inline float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static inline Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
static inline Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
static inline Vec operator*(Vec a, float k) { return {a.x * k, a.y * k, a.z * k}; }
static inline Vec cross(Vec a, Vec b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
static inline Vec normal(Vec a) { return a * (1.0f / __builtin_sqrtf(dot(a, a) + 1e-12f)); }
static inline float above(float x) { return x > 0.0f ? x : 0.0f; }

struct Matter {
  Colour albedo;      // display-referred
  float gloss, soft;  // strength of the highlight; 0 matt .. 1 skin: how far light travels inside
  float tight;        // 0 broad sheen, 1 small wet highlight
};

struct Light {
  Vec key, half, rim, side, up;
  Colour key_c, sky, floor_, rim_c;

  explicit Light(const Params& p) {
    key = normal({p.light_x, p.light_y, 0.85f});
    half = normal(key + Vec{0, 0, 1});
    side = normal(cross(key, {0, 1, 0})), up = cross(side, key);
    rim = normal({p.rim_x, -0.35f, -0.62f});
    float warm = p.warmth, gain = 1.02f * p.light_gain, fill = 0.98f * p.ambient * p.light_gain;
    key_c = Colour{1.0f + 0.10f * warm, 1.0f, 1.0f - 0.16f * warm} * gain;
    sky = Colour{p.sky_r, p.sky_g, p.sky_b} * fill;
    floor_ = Colour{p.floor_r, p.floor_g, p.floor_b} * fill;
    rim_c = Colour{p.rim_r, p.rim_g, p.rim_b} * (p.rim_gain * p.light_gain);
  }
  Colour around(Vec n) const { return mix(sky, floor_, clamp01(0.5f + 0.5f * n.y)); }

  Colour shade(const Matter& m, Vec n, float ao, float shadow) const {
    Colour c = linear(m.albedo);
    float d = dot(n, key), s = m.soft, front = n.z > 0.12f ? n.z : 0.12f;
    // Red light travels furthest under skin: the edge of a shadow is warm.
    float wr = 0.08f + 0.34f * s, wg = 0.08f + 0.14f * s, wb = 0.08f + 0.08f * s;
    float sr = shadow + s * 0.35f * shadow * (1.0f - shadow), sb = shadow;
    Colour lit = {clamp01((d + wr) / (1.0f + wr)) * sr, clamp01((d + wg) / (1.0f + wg)) * sb, clamp01((d + wb) / (1.0f + wb)) * sb};
    float ar = ao + s * 0.50f * ao * (1.0f - ao), ag = ao + s * 0.12f * ao * (1.0f - ao);
    float direct_ao = 0.55f + 0.45f * ao;
    Colour around_c = around(n);
    float edge = 1.0f - front, edge3 = edge * edge * edge;
    float back = clamp01(dot(n, rim) + 0.25f) * (0.20f + 1.6f * edge3) * ao;
    Colour light = {key_c.r * lit.r * direct_ao + around_c.r * ar, key_c.g * lit.g * direct_ao + around_c.g * ag, key_c.b * lit.b * direct_ao + around_c.b * ao};
    light = light + rim_c * back;
    Colour out = c * light;
    float nh = clamp01(dot(n, half)), n2 = nh * nh, n4 = n2 * n2, n8 = n4 * n4, n16 = n8 * n8;
    float broad = n8 * n4, small = n16 * n16 * n16;
    float spec = m.gloss * (mix(broad * 0.55f, small * 2.2f, m.tight) * shadow * direct_ao);
    out = out + key_c * (spec * (0.6f + 0.4f * edge)) + (around_c * (0.20f * edge3 * ao) + rim_c * (0.30f * edge3 * back)) * (0.35f + m.gloss);
    return out;
  }

  // Hair shines along bands across its strands; t is the strand's direction, noise differs from strand to strand.
  Colour shade_hair(Colour albedo, Vec n, Vec t, float noise, float ao, float shadow, float gloss) const {
    Colour c = linear(albedo), around_c = around(n);
    float d = clamp01((dot(n, key) + 0.30f) / 1.30f), edge = 1.0f - clamp01(n.z);
    Vec shifted = normal(t + n * (0.10f + 0.22f * (noise - 0.5f))), second = normal(t + n * (-0.16f + 0.25f * (noise - 0.5f)));
    float th = dot(shifted, half), ts = dot(second, half);
    float k = above(1.0f - th * th), k2 = k * k, k8 = sq(sq(k2)), first = sq(sq(k8)) * k8;
    float q = above(1.0f - ts * ts), q2 = q * q, tinted = sq(sq(q2)) * q2;
    float face = clamp01(dot(n, key) * 1.4f + 0.25f);
    Colour light = key_c * (d * shadow * (0.45f + 0.55f * ao)) + around_c * (0.90f * ao) + rim_c * (clamp01(dot(n, rim) + 0.35f) * (0.25f + 2.0f * edge * edge * edge));
    Colour out = c * light * (0.80f + 0.40f * noise);
    Colour glint = mix(Colour{1, 1, 1}, c, 0.35f);
    return out + glint * key_c * (first * face * shadow * ao * gloss * 0.16f) + c * key_c * (tinted * face * shadow * ao * gloss * 0.85f);
  }

  // A window's reflection on a wet ball: a soft-edged square round the mirror direction.
  float window(Vec n, float size) const {
    Vec r = n * (2.0f * n.z) - Vec{0, 0, 1};
    if (dot(r, key) < 0.2f) return 0.0f;
    float a = fabsf_(dot(r, side)), b = fabsf_(dot(r, up)), far = a > b ? a : b, round = __builtin_sqrtf(a * a + b * b);
    return smoothstep(size * 1.25f, size * 0.75f, mix(far, round, 0.5f));
  }
};

// Linear to display, 0..1: a soft shoulder as film has, so that bright skin keeps its colour.
static inline float display(float x) { return __builtin_sqrtf(1.0f - __builtin_expf(-1.55f * (x > 0.0f ? x : 0.0f))); }

}  // namespace film
