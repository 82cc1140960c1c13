// Hair as a shell that grows out of the skull, with locks and a direction of growth; hats sit on the same skull.
#pragma once

#include "film_layout.h"

namespace film {

struct Strand {
  Pack across;          // one number a strand: equal along it
  Points direction;     // unit vector along the strand
};

struct Hair {
  Ellipsoid scalp, cut, quiff, back, bun, over_ear;
  Cone tail, tail_end, lock, throat;
  bool exists, with_hair, hat, has_bun, has_tail, has_lock, has_quiff, hides_ears;
  float volume, line, end_y, curl, wave, part, sweep, fringe, recede, longer;

  explicit Hair(const Params& p) {
    hat = p.hat > 0.5f;
    exists = hat || p.hair_amount > 0.0f, with_hair = p.hair_amount > 0.0f;
    longer = 0.5f * (p.hair_length + 1.0f), part = 0.35f * p.hair_part, sweep = p.hair_sweep;
    curl = hat ? 0.0f : p.hair_curl, wave = p.hair_wave, fringe = p.hair_fringe, recede = p.hair_recede;
    has_bun = p.hair_bun > 0.5f && !hat, has_tail = p.hair_tail > 0.5f, has_lock = longer > 0.52f && !has_tail, has_quiff = p.hair_quiff > 0.05f && !hat;
    float w = 1.0f + 0.055f * p.face_width;
    volume = hat ? 0.13f : 0.065f + 0.060f * (p.hair_volume + 1.0f) + 0.11f * curl;
    scalp = {0.0f, -0.45f, -0.23f, 0.965f * w, 1.00f, 1.10f};
    line = 0.10f * p.hairline + 0.16f * recede;
    cut = {0.10f * part, 0.46f - line + 0.44f * fringe, 1.06f, 0.93f * w, 1.18f + 0.02f * fringe, 0.98f};
    end_y = hat ? (longer > 0.3f ? 0.1f + 2.0f * longer : 0.40f) : 0.30f + 1.95f * longer;
    quiff = {part * 0.55f, -1.24f - 0.10f * p.hair_quiff, 0.42f, 0.66f, 0.24f + 0.18f * p.hair_quiff, 0.46f};
    back = {0.0f, 0.10f + 0.80f * longer, -0.40f, (0.91f + 0.17f * longer) * w + 0.55f * volume, 0.80f + 0.95f * longer, 0.62f + 0.4f * volume + 0.10f * longer};
    bun = {0.0f, -1.62f - volume, -0.45f, 0.38f, 0.33f, 0.36f};
    hides_ears = !hat && !has_tail && !has_bun && (longer > 0.25f || (curl > 0.3f && volume > 0.20f));
    over_ear = {0.93f * w, 0.16f, -0.17f, 0.20f, 0.40f, 0.28f};
    throat = {0.0f, 1.05f, 0.42f, 0.0f, 3.6f, 0.50f, 0.66f * w, 0.60f * w};
    tail = {0.0f, -0.75f, -1.25f, 0.42f, 0.35f, -1.55f, 0.22f, 0.30f};
    tail_end = {0.42f, 0.35f, -1.55f, 0.62f, 1.55f, -1.10f, 0.30f, 0.08f};
    lock = {0.90f * w, -0.10f, -0.02f, (0.90f + 0.10f * longer) * w, end_y, 0.12f + 0.12f * longer, 0.15f + 0.35f * volume, 0.10f + 0.12f * longer};
  }

  // Positive where hair grows: outside the face's cut-out.
  Pack growth(const Points& p) const {
    Pack inside_cut = -cut.distance(p);
    Pack g = -inside_cut;
    if (recede > 0.01f) g -= recede * 0.55f * bell(absolute(p.x - part) - 0.52f, 0.26f) * ramp(-0.2f, 0.5f, p.z);
    return g;
  }

  Pack distance(const Points& p) const {
    Pack d = scalp.distance(p);
    if (hat) return hat_distance(p, d);
    Pack g = growth(p), thick = ramp(-0.015f, 0.26f, g) * volume;
    if (longer < 0.2f) thick *= 1.0f - (0.82f - 0.45f * curl - 0.35f * fringe) * ramp(-1.40f, -0.30f, p.y);
    thick -= 0.050f * ramp(0.010f, -0.060f, g);
    // The parting: a soft valley from the hairline to the crown.
    thick -= 0.30f * volume * bell(p.x - part, 0.055f) * ramp(-0.9f, -1.2f, p.y) * ramp(-0.6f, 0.0f, p.z) * (1.0f - 0.8f * curl);
    Pack body = d - thick;
    if (longer > 0.10f && !has_tail) body = blend_min(body, blend_max(back.distance(p), 0.30f - g, 0.10f), 0.20f);
    if (has_quiff) body = blend_min(body, blend_max(quiff.distance(p), 0.03f - g, 0.06f), 0.16f);
    if (hides_ears) body = blend_min(body, over_ear.distance({absolute(p.x), p.y, p.z}), 0.12f);
    if (has_lock) body = blend_min(body, lock.distance({absolute(p.x), p.y, p.z}), 0.22f);
    body = blend_max(body, p.y - tips(p), 0.16f);
    body = blend_max(body, -g - 0.03f, 0.03f);
    if (longer > 0.10f) body = blend_max(body, -throat.distance(p), 0.12f);
    if (has_bun) body = blend_min(body, bun.distance(p), 0.06f);
    if (has_tail) body = blend_min(body, blend_min(tail.distance(p), tail_end.distance(p), 0.10f), 0.08f);
    if (any(absolute(body) < 0.15f)) body -= locks(p);
    return body;
  }

  // Where the hair ends: tips of locks are not level.
  Pack tips(const Points& p) const {
    if (longer < 0.10f) return splat(end_y);
    return end_y + 0.16f * (noise1(across_of(p) * 7.0f, 13) - 0.5f) + 0.10f * absolute(p.x);
  }

  // Large waves of the surface that show in the outline.
  Pack locks(const Points& p) const {
    Pack h = splat(0.0f);
    if (curl > 0.05f) h += curl * (0.050f * curls(p, 3.6f) + 0.022f * curls(p, 8.0f));
    if (curl < 0.6f) h += 0.016f * (noise1(across_of(p) * 9.0f, 3) - 0.5f) * (1.0f + 1.2f * wave);
    return h;
  }
  // Round curls: bumps at the crossings of three bent waves.
  static Pack curls(const Points& p, float rate) {
    Pack wx = p.x * rate, wy = p.y * rate, wz = p.z * rate;
    Pack a = bend(wx + 0.45f * bend(wy * 0.7f + 0.3f)), b = bend(wy + 0.45f * bend(wz * 0.8f)), c = bend(wz + 0.45f * bend(wx * 0.9f + 0.7f));
    return a * b + b * c * 0.6f + 0.3f * a;
  }

  Pack hat_distance(const Points& p, Pack d) const {
    Pack under = under_hat(p), knit = knitted(p, d);
    return with_hair ? minimum(knit, under) : knit;
  }
  Pack knitted(const Points& p, Pack d) const {
    Pack knit = blend_max(d - volume, p.y * 0.97f + p.z * 0.18f + 0.56f, 0.05f);
    Pack band = absolute(p.y * 0.97f + p.z * 0.18f + 0.70f) - 0.13f;  // the folded rim
    knit = blend_min(knit, blend_max(d - volume - 0.055f, band, 0.05f), 0.03f);
    return knit;
  }
  // Hair under a hat: a short fringe round the ears and what hangs behind.
  Pack under_hat(const Points& p) const {
    Pack g = growth(p), d = scalp.distance(p) - 0.05f * ramp(-0.02f, 0.12f, g);
    d = blend_max(d, -g - 0.02f, 0.03f);
    if (longer > 0.10f) d = blend_max(blend_min(d, blend_max(back.distance(p), 0.25f - g, 0.10f), 0.15f), -throat.distance(p), 0.12f);
    return blend_max(d, p.y - end_y, 0.12f);
  }

  // Combed from the parting down: strands leave a line on top of the head to both sides and fan out at its ends. Seen
  // from above, `across` runs round that line and is the same all the way down, so there is no whirl but on the crown.
  Pack across_of(const Points& p) const {
    Pack x = p.x - part + sweep * 0.35f * ramp(-0.3f, 0.7f, p.z) * (p.y + 1.2f);
    Pack on_line = minimum(maximum(p.z, splat(-0.45f)), splat(0.30f));
    Pack a = angle(x, p.z - on_line) + pick(x < 0.0f, splat(-1.05f), splat(1.05f)) * (0.30f - on_line);
    if (wave > 0.01f) a += wave * 0.050f * bend(p.y * 4.2f + p.z * 1.5f);
    return a;
  }
  // Angle of (x, z) from the z axis, -pi .. pi, good to 1e-4.
  static Pack angle(Pack x, Pack z) {
    Pack ax = absolute(x), az = absolute(z), low = minimum(ax, az), high = maximum(ax, az) + 1e-6f, r = low / high, q = r * r;
    Pack t = r * (0.99987f + q * (-0.33030f + q * (0.18014f + q * (-0.08513f + q * 0.02084f))));
    t = pick(ax > az, 1.5707963f - t, t);
    t = pick(z < 0.0f, 3.1415927f - t, t);
    return pick(x < 0.0f, -t, t);
  }
  static Pack bend(Pack x) {  // a smooth wave of period 2 in -1..1
    Pack k = x * 0.5f, f = k - __builtin_convertvector(floor_pack(k), Pack);
    f = f * 4.0f - 2.0f;
    return f * (2.0f - absolute(f));
  }
  Strand strand(const Points& p, const Points& n) const {
    const float e = 0.01f;
    Strand s;
    s.across = across_of(p);
    Pack gx = across_of({p.x + e, p.y, p.z}) - s.across, gy = across_of({p.x, p.y + e, p.z}) - s.across, gz = across_of({p.x, p.y, p.z + e}) - s.across;
    Points t = {n.y * gz - n.z * gy, n.z * gx - n.x * gz, n.x * gy - n.y * gx};
    Pack inverse = 1.0f / root(t.x * t.x + t.y * t.y + t.z * t.z + 1e-10f);
    s.direction = {t.x * inverse, t.y * inverse, t.z * inverse};
    return s;
  }
  // Grooves between locks: bends the normals only.
  Pack relief(const Points& p) const {
    if (hat) return 0.014f * bend(p.x * 11.0f / (0.55f + absolute(p.z) * 0.45f) + 0.5f) * 0.6f;
    if (curl > 0.3f) return curl * (0.010f * curls(p, 15.0f) + 0.004f * noise2(p.x * 26.0f + p.z * 18.0f, p.y * 26.0f - p.z * 14.0f, 17));
    Pack a = across_of(p);
    return 0.034f * noise1(a * 14.0f, 5) + 0.011f * noise1(a * 30.0f, 6);
  }
  // Whether a point of the surface is the hat's, not the hair's under it.
  bool is_hat(float x, float y, float z) const {
    if (!hat || !with_hair) return hat;
    Points p = {splat(x), splat(y), splat(z)};
    return knitted(p, scalp.distance(p))[0] < under_hat(p)[0];
  }
  Pack detailed(const Points& p) const { return distance(p) - relief(p); }
};

}  // namespace film
