// What a camera does to a picture: motion blur, sensor noise, block compression.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "film_math.h"

namespace film {

// Averages `count` copies of the picture in linear light, shifted along (dx, dy) pixels in all.
static void smear(const uint8_t* in, uint8_t* out, int w, int h, float dx, float dy) {
  int count = static_cast<int>(std::ceil(std::sqrt(dx * dx + dy * dy))) + 1;
  if (count > 33) count = 33;
  std::vector<float> sum(static_cast<size_t>(w) * h * 3, 0.0f);
  for (int k = 0; k < count; ++k) {
    float part = count > 1 ? static_cast<float>(k) / (count - 1) - 0.5f : 0.0f, sx = dx * part, sy = dy * part;
    int ix = floor_int(sx), iy = floor_int(sy);
    float fx = sx - ix, fy = sy - iy, wt[4] = {(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy};
    for (int y = 0; y < h; ++y)
      for (int x = 0; x < w; ++x)
        for (int t = 0; t < 4; ++t) {
          int qx = x + ix + (t & 1), qy = y + iy + (t >> 1);
          qx = qx < 0 ? 0 : (qx >= w ? w - 1 : qx), qy = qy < 0 ? 0 : (qy >= h ? h - 1 : qy);
          const uint8_t* from = in + (static_cast<size_t>(qy) * w + qx) * 3;
          float* to = sum.data() + (static_cast<size_t>(y) * w + x) * 3;
          for (int j = 0; j < 3; ++j) to[j] += wt[t] * from[j] * from[j];
        }
  }
  for (size_t i = 0; i < sum.size(); ++i) out[i] = static_cast<uint8_t>(std::sqrt(sum[i] / count) + 0.5f);
}

// Sensor noise: its variance grows with light (shot) above a floor (read), and colour noise is coarser than grey.
static void sensor(uint32_t seed, float read, float shot, uint8_t* image, int w, int h) {
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      uint8_t* at = image + (static_cast<size_t>(y) * w + x) * 3;
      unsigned fine = hash2(x + y * 4099, static_cast<int>(seed));
      unsigned coarse = hash2((x >> 1) + (y >> 1) * 4099, static_cast<int>(seed ^ 0x5bd1e995u));
      float grey = (static_cast<float>((fine & 255u) + ((fine >> 8) & 255u) + ((fine >> 16) & 255u) + (fine >> 24)) - 510.0f) * (1.0f / 147.8f);
      for (int j = 0; j < 3; ++j) {
        float tint = (static_cast<float>((coarse >> (8 * j)) & 255u) - 127.5f) * (1.0f / 73.9f);
        float sigma = std::sqrt(read * read + shot * shot * at[j] * (1.0f / 255.0f)), v = at[j] + sigma * (0.85f * grey + 0.45f * tint) + 0.5f;
        at[j] = static_cast<uint8_t>(v < 0.0f ? 0.0f : (v > 255.0f ? 255.0f : v));
      }
    }
}

// Block compression as still and video codecs do it: luma in 8x8 blocks, colour at half size, coefficients rounded to
// steps that grow with frequency. strength 0 leaves the picture alone, 1 is a poor video call.
class Blocks {
 public:
  explicit Blocks(float strength) : strength_(strength) {
    for (int k = 0; k < 8; ++k)
      for (int n = 0; n < 8; ++n) cosine_[k][n] = (k == 0 ? std::sqrt(0.125f) : 0.5f) * std::cos(3.14159265f * (2 * n + 1) * k / 16.0f);
  }
  void apply(uint8_t* image, int w, int h) const {
    const int cw = (w + 1) / 2, ch = (h + 1) / 2;
    std::vector<float> y(static_cast<size_t>(w) * h), u(static_cast<size_t>(cw) * ch, 0.0f), v(u.size(), 0.0f), n(u.size(), 0.0f);
    for (int r = 0; r < h; ++r)
      for (int c = 0; c < w; ++c) {
        const uint8_t* p = image + (static_cast<size_t>(r) * w + c) * 3;
        float luma = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];
        size_t at = static_cast<size_t>(r / 2) * cw + c / 2;
        y[static_cast<size_t>(r) * w + c] = luma, u[at] += 0.564f * (p[2] - luma), v[at] += 0.713f * (p[0] - luma), n[at] += 1.0f;
      }
    for (size_t i = 0; i < n.size(); ++i) u[i] /= n[i], v[i] /= n[i];
    plane(y.data(), w, h, 1.0f), plane(u.data(), cw, ch, 1.7f), plane(v.data(), cw, ch, 1.7f);
    for (int r = 0; r < h; ++r)
      for (int c = 0; c < w; ++c) {
        size_t at = static_cast<size_t>(r / 2) * cw + c / 2;
        float luma = y[static_cast<size_t>(r) * w + c], b = luma + u[at] / 0.564f, red = luma + v[at] / 0.713f;
        float rgb[3] = {red, (luma - 0.299f * red - 0.114f * b) / 0.587f, b};
        for (int j = 0; j < 3; ++j) {
          float x = rgb[j] + 0.5f;
          image[(static_cast<size_t>(r) * w + c) * 3 + j] = static_cast<uint8_t>(x < 0.0f ? 0.0f : (x > 255.0f ? 255.0f : x));
        }
      }
  }

 private:
  float strength_, cosine_[8][8];

  void plane(float* data, int w, int h, float coarse) const {
    float in[8][8], mid[8][8];
    for (int by = 0; by < h; by += 8)
      for (int bx = 0; bx < w; bx += 8) {
        auto at = [&](int r, int c) -> float& {
          int y = by + r < h ? by + r : h - 1, x = bx + c < w ? bx + c : w - 1;
          return data[static_cast<size_t>(y) * w + x];
        };
        for (int r = 0; r < 8; ++r)
          for (int c = 0; c < 8; ++c) in[r][c] = at(r, c);
        turn(in, mid, false);
        for (int r = 0; r < 8; ++r)
          for (int c = 0; c < 8; ++c) {
            float step = 1.0f + strength_ * coarse * (4.0f + 5.5f * (r + c));
            mid[r][c] = step * std::floor(mid[r][c] / step + 0.5f);
          }
        turn(mid, in, true);
        for (int r = 0; r < 8 && by + r < h; ++r)
          for (int c = 0; c < 8 && bx + c < w; ++c) at(r, c) = in[r][c];
      }
  }
  void turn(const float (&from)[8][8], float (&to)[8][8], bool back) const {
    float half[8][8];
    for (int r = 0; r < 8; ++r)
      for (int k = 0; k < 8; ++k) {
        half[r][k] = 0.0f;
        for (int n = 0; n < 8; ++n) half[r][k] += from[r][n] * (back ? cosine_[n][k] : cosine_[k][n]);
      }
    for (int k = 0; k < 8; ++k)
      for (int c = 0; c < 8; ++c) {
        to[k][c] = 0.0f;
        for (int n = 0; n < 8; ++n) to[k][c] += half[n][c] * (back ? cosine_[n][k] : cosine_[k][n]);
      }
  }
};

}  // namespace film
