// Backgrounds of the film look, out of focus: 0 studio, 1 room, 2 garden, 3 evening street.
#pragma once

#include <cstdint>
#include <vector>

#include "film_math.h"

namespace film {

struct Dice {
  uint32_t state;
  float next() {
    state = state * 1664525u + 1013904223u;
    return unit(hash2(static_cast<int>(state >> 3), static_cast<int>(state & 7u)) >> 4);
  }
  float range(float a, float b) { return a + (b - a) * next(); }
};

// A soft shape in display colours: a disc (kind 0) or a box (kind 1). Unit: the picture's longer side.
struct Blur {
  int kind;
  float x, y, w, h, soft, alpha, c, s;
  Colour colour;
  void over(float px, float py, Colour& under) const {
    float dx = px - x, dy = py - y, u = c * dx + s * dy, v = c * dy - s * dx, d;
    if (kind == 0) {
      d = (1.0f - __builtin_sqrtf(sq(u / w) + sq(v / h))) * (w < h ? w : h);
    } else {
      float ax = fabsf_(u) - w, ay = fabsf_(v) - h;
      d = -(ax > ay ? ax : ay);
    }
    if (d > -soft) under = mix(under, colour, alpha * smoothstep(-soft, soft, d));
  }
};

class Backdrop {
 public:
  Backdrop(uint32_t seed, int style) : dice_{seed * 2654435761u + 977u}, style_(style) {
    static const Colour walls[] = {{.36f, .42f, .46f}, {.58f, .50f, .42f}, {.32f, .40f, .36f}, {.52f, .42f, .44f}, {.28f, .33f, .45f}, {.62f, .58f, .50f}};
    const Colour wall = walls[static_cast<int>(dice_.range(0.0f, 5.99f))] * dice_.range(0.75f, 1.15f);
    glow_x_ = dice_.range(0.15f, 0.85f), glow_y_ = dice_.range(0.1f, 0.5f), glow_ = {1.0f, dice_.range(0.88f, 1.0f), dice_.range(0.72f, 0.98f)};
    if (style == 2) garden();
    else if (style == 3) street();
    else if (style == 1) room(wall);
    else top_ = wall * 1.1f, low_ = wall * 0.68f, strength_ = 0.35f;
  }
  Colour at(float x, float y) const {
    Colour c = mix(top_, low_, smoothstep(0.05f, 0.95f, y));
    c = mix(c, glow_, strength_ * bell(x - glow_x_, 0.45f) * bell(y - glow_y_, 0.45f));
    for (const auto& item : items_) item.over(x, y, c);
    float edge = sq(x - 0.5f) + sq(y - 0.45f);
    return c * (1.0f - 0.45f * edge);
  }

 private:
  Dice dice_;
  int style_;
  Colour top_, low_, glow_;
  float glow_x_, glow_y_, strength_ = 0.25f;
  std::vector<Blur> items_;

  void add(int kind, float x, float y, float w, float h, float soft, float alpha, Colour c, float angle = 0.0f) {
    items_.push_back({kind, x, y, w, h, soft, alpha, __builtin_cosf(angle), __builtin_sinf(angle), c});
  }
  void room(Colour wall) {
    top_ = wall, low_ = wall * 0.78f;
    float side = dice_.next() < 0.5f ? 0.0f : 1.0f, x = side < 0.5f ? dice_.range(-0.05f, 0.18f) : dice_.range(0.82f, 1.05f), focus = dice_.range(0.008f, 0.03f);
    add(1, x, 0.30f, 0.20f, 0.30f, focus, 1.0f, Colour{.93f, .95f, .96f} * dice_.range(0.85f, 1.0f));  // window
    add(1, x, 0.30f, 0.010f, 0.30f, focus, 0.9f, wall * 1.25f), add(1, x, 0.26f, 0.20f, 0.010f, focus, 0.9f, wall * 1.25f);
    float sx = 1.0f - x + dice_.range(-0.1f, 0.1f);
    Colour wood = Colour{.42f, .28f, .18f} * dice_.range(0.6f, 1.2f);
    for (int row = 0; row < 4; ++row) {
      float y = 0.10f + 0.19f * row, at = sx - 0.26f;
      add(1, sx, y + 0.085f, 0.28f, 0.012f, focus, 0.95f, wood);
      while (at < sx + 0.25f) {
        float wide = dice_.range(0.008f, 0.026f), high = dice_.range(0.035f, 0.070f), warm = dice_.range(0.25f, 0.8f);
        if (dice_.next() < 0.8f) add(1, at, y + 0.073f - high, wide, high, focus, 0.9f, Colour{warm, warm * dice_.range(0.5f, 1.05f), warm * dice_.range(0.4f, 1.1f)});
        at += 2.1f * wide + 0.004f;
      }
    }
    if (dice_.next() < 0.6f) add(0, 1.0f - x, dice_.range(0.05f, 0.3f), 0.09f, 0.07f, 0.06f, 0.8f, Colour{1.0f, .86f, .58f});
  }
  void garden() {
    top_ = Colour{.62f, .78f, .92f} * dice_.range(0.85f, 1.05f), low_ = {.80f, .86f, .84f};
    float horizon = dice_.range(0.35f, 0.6f);
    for (int k = 0; k < 3; ++k) add(0, dice_.range(0.0f, 1.0f), horizon + 0.45f + 0.05f * k, dice_.range(0.5f, 0.9f), 0.45f + 0.05f * k, 0.04f, 0.9f, Colour{.44f, .60f, .42f} * (1.1f - 0.2f * k));
    for (int k = 0; k < 26; ++k) {
      float shade = dice_.range(0.5f, 1.25f), r = dice_.range(0.03f, 0.10f), edge = dice_.next() < 0.5f ? dice_.range(-0.05f, 0.3f) : dice_.range(0.7f, 1.05f);
      add(0, edge, dice_.range(-0.05f, 0.75f), r, r * dice_.range(0.7f, 1.1f), 0.025f, 0.75f, Colour{.30f, .50f, .22f} * shade);
    }
    for (int k = 0; k < 14; ++k) {
      float r = dice_.range(0.008f, 0.025f);
      add(0, dice_.next(), dice_.range(0.0f, 0.6f), r, r, 0.004f, dice_.range(0.15f, 0.45f), Colour{.97f, .98f, .78f});
    }
    strength_ = 0.35f, glow_ = {1.0f, .97f, .84f};
  }
  void street() {
    top_ = Colour{.13f, .16f, .28f} * dice_.range(0.8f, 1.5f), low_ = Colour{.28f, .22f, .24f};
    for (int k = 0; k < 7; ++k) add(1, dice_.next(), dice_.range(0.2f, 0.6f), dice_.range(0.05f, 0.14f), dice_.range(0.25f, 0.5f), 0.015f, 0.6f, Colour{.16f, .17f, .24f} * dice_.range(0.6f, 1.5f));
    static const Colour lamps[] = {{1.0f, .78f, .42f}, {1.0f, .55f, .32f}, {.55f, .75f, 1.0f}, {1.0f, .92f, .74f}, {.95f, .42f, .48f}};
    for (int k = 0; k < 26; ++k) {
      float r = dice_.range(0.012f, 0.055f);
      add(0, dice_.next(), dice_.range(0.05f, 0.85f), r, r, 0.004f, dice_.range(0.25f, 0.8f), lamps[static_cast<int>(dice_.range(0.0f, 4.99f))]);
    }
    strength_ = 0.12f;
  }
};

static void draw_backdrop(uint32_t seed, int style, uint8_t* image, int w, int h) {
  const Backdrop scene(seed, style);
  const float pixel = 1.0f / (w > h ? w : h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      Colour c = scene.at((x + 0.5f) * pixel, (y + 0.5f) * pixel);
      uint8_t* to = image + (static_cast<size_t>(y) * w + x) * 3;
      to[0] = static_cast<uint8_t>(clamp01(c.r) * 255.0f + 0.5f), to[1] = static_cast<uint8_t>(clamp01(c.g) * 255.0f + 0.5f), to[2] = static_cast<uint8_t>(clamp01(c.b) * 255.0f + 0.5f);
    }
}

}  // namespace film
