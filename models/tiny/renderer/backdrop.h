// Backgrounds: style 0 is a soft studio gradient, 1 adds out-of-focus lights and panels, 2 is clutter for the detector.
#pragma once

#include <cstdint>
#include <vector>

#include "paint.h"

namespace face {

struct Dice {
  uint32_t state;
  float next() {
    state = state * 1664525u + 1013904223u;
    return unit(hash2(static_cast<int>(state >> 3), static_cast<int>(state & 7u)) >> 4);
  }
  float range(float a, float b) { return a + (b - a) * next(); }
  Colour colour(float low, float high) { return {range(low, high), range(low, high), range(low, high)}; }
};

struct Item {
  int kind;
  float x, y, c, s, w, h, soft, alpha, period;
  Colour colour, other;
};

static Item random_item(Dice& dice, int style, float scale) {
  Item it;
  it.kind = static_cast<int>(dice.range(0.0f, style == 2 ? 6.0f : 2.0f));
  it.x = dice.range(-0.1f, 1.1f), it.y = dice.range(-0.1f, 1.1f);
  float angle = dice.next() < 0.4f ? 0.0f : dice.range(0.0f, 6.2832f);
  it.c = __builtin_cosf(angle), it.s = __builtin_sinf(angle);
  float size = style == 2 ? 0.02f + 0.30f * sq(dice.next()) : dice.range(0.05f, 0.35f);
  it.w = size * scale, it.h = size * dice.range(0.3f, 1.6f) * scale;
  it.soft = style == 2 ? (dice.next() < 0.7f ? 0.002f : dice.range(0.01f, 0.08f)) : dice.range(0.02f, 0.12f);
  it.alpha = style == 2 ? dice.range(0.5f, 1.0f) : dice.range(0.15f, 0.6f);
  it.period = dice.range(0.01f, 0.08f);
  it.colour = dice.colour(0.03f, 0.97f), it.other = dice.colour(0.03f, 0.97f);
  if (style == 2 && dice.next() < 0.35f) {  // skin-coloured things are not faces
    it.colour = skin_colour(dice.range(-1, 1), dice.range(-1, 1));
    it.other = it.colour * dice.range(0.5f, 1.1f);
  }
  return it;
}

static void apply_item(const Item& it, float x, float y, Colour& c) {
  float dx = x - it.x, dy = y - it.y, u = it.c * dx + it.s * dy, v = -it.s * dx + it.c * dy;
  float d, ax = fabsf_(u) - it.w, ay = fabsf_(v) - it.h;
  Colour own = it.colour;
  switch (it.kind) {
    case 0: d = (1.0f - __builtin_sqrtf(sq(u / it.w) + sq(v / it.h))) * (it.w < it.h ? it.w : it.h); break;
    case 1: d = -(ax > ay ? ax : ay); break;
    case 2: d = 0.12f * it.h - fabsf_(v); break;                                                   // a bar across
    case 3: d = 0.15f * it.w - fabsf_(__builtin_sqrtf(sq(u) + sq(v)) - it.w); break;               // a ring
    case 4:                                                                                        // stripes or checks
      d = -(ax > ay ? ax : ay);
      if (((floor_int(u / it.period) + (it.alpha > 0.75f ? floor_int(v / it.period) : 0)) & 1) != 0) own = it.other;
      break;
    default: {                                                                                     // rows of dots
      float pu = u / it.period, pv = v / it.period;
      pu -= floor_int(pu) + 0.5f, pv -= floor_int(pv) + 0.5f;
      d = ax < 0 && ay < 0 ? (0.32f - __builtin_sqrtf(sq(pu) + sq(pv))) * it.period : -1.0f;
    }
  }
  if (d > -it.soft) {
    float shade = it.kind < 2 && it.w > 0.02f ? 1.0f + 0.35f * (v / it.h) * (it.other.r - 0.5f) : 1.0f;
    c = mix(c, own * shade, it.alpha * smoothstep(-it.soft, it.soft, d));
  }
}

static void draw_backdrop(uint32_t seed, int style, uint8_t* image, int w, int h) {
  Dice dice = {seed * 2654435761u + 12345u};
  Colour corner[4];
  float low = style == 0 ? 0.25f : 0.05f, high = style == 0 ? 0.75f : 0.9f;
  Colour base = dice.colour(low, high);
  for (auto& c : corner) c = style == 2 ? dice.colour(low, high) : mix(base * dice.range(0.6f, 1.25f), dice.colour(low, high), 0.18f);
  std::vector<Item> items;
  int count = style == 0 ? 0 : static_cast<int>(dice.range(3, style == 1 ? 10 : 22));
  for (int i = 0; i < count; ++i) items.push_back(random_item(dice, style, 1.0f));
  float f1 = dice.range(1.5f, 6.0f), f2 = dice.range(6.0f, 40.0f), strength = style == 0 ? 0.03f : dice.range(0.0f, style == 2 ? 0.55f : 0.10f);
  float ox = dice.range(0, 999), oy = dice.range(0, 999), pixel = 1.0f / (w > h ? w : h);
  for (int py = 0; py < h; ++py)
    for (int px = 0; px < w; ++px) {
      float x = (px + 0.5f) * pixel, y = (py + 0.5f) * pixel, fx = (px + 0.5f) / w, fy = (py + 0.5f) / h;
      Colour c = mix(mix(corner[0], corner[1], fx), mix(corner[2], corner[3], fx), fy);
      for (const auto& it : items) apply_item(it, x, y, c);
      if (strength > 0.0f) c = c * (1.0f + strength * (value_noise(x * f1 + ox, y * f1 + oy) + 0.5f * value_noise(x * f2 + oy, y * f2 + ox) - 0.75f));
      uint8_t* at = image + (static_cast<size_t>(py) * w + px) * 3;
      at[0] = static_cast<uint8_t>(clamp01(c.r) * 255.0f), at[1] = static_cast<uint8_t>(clamp01(c.g) * 255.0f), at[2] = static_cast<uint8_t>(clamp01(c.b) * 255.0f);
    }
}

// Sensor noise: the sum of four hashed bytes is close enough to a normal distribution.
static void grain(uint32_t seed, float sigma, float gain, uint8_t* image, int count) {
  const float k = sigma / 147.8f;  // standard deviation of the sum of four uniform bytes
  for (int i = 0; i < count; ++i) {
    unsigned h = hash2(i, static_cast<int>(seed));
    float sum = static_cast<float>((h & 255u) + ((h >> 8) & 255u) + ((h >> 16) & 255u) + (h >> 24)) - 510.0f;
    float x = image[i] * gain + sum * k + 0.5f;
    image[i] = static_cast<uint8_t>(x < 0.0f ? 0.0f : (x > 255.0f ? 255.0f : x));
  }
}

}  // namespace face
