// One person ready to be drawn: solids, painters, light and the poses of head and trunk.
#pragma once

#include "film_body.h"
#include "film_eye.h"
#include "film_hair.h"
#include "film_head.h"
#include "film_mouth.h"
#include "film_props.h"

namespace film {

struct Pose {
  float m[9];  // camera from head
  float pivot[3];
  // yaw > 0 turns the nose to the image's right, pitch > 0 lowers it, roll > 0 is clockwise.
  Pose(float yaw, float pitch, float roll, float px, float py, float pz) : pivot{px, py, pz} {
    float cy = __builtin_cosf(yaw), sy = __builtin_sinf(yaw), cp = __builtin_cosf(pitch), sp = __builtin_sinf(pitch);
    float cr = __builtin_cosf(roll), sr = __builtin_sinf(roll);
    float a[9] = {cy, 0, sy, -sp * sy, cp, sp * cy, -cp * sy, -sp, cp * cy};
    for (int c = 0; c < 3; ++c) m[c] = cr * a[c] - sr * a[3 + c], m[3 + c] = sr * a[c] + cr * a[3 + c], m[6 + c] = a[6 + c];
  }
  Vec turn(Vec v) const { return {m[0] * v.x + m[1] * v.y + m[2] * v.z, m[3] * v.x + m[4] * v.y + m[5] * v.z, m[6] * v.x + m[7] * v.y + m[8] * v.z}; }
  Vec back(Vec v) const { return {m[0] * v.x + m[3] * v.y + m[6] * v.z, m[1] * v.x + m[4] * v.y + m[7] * v.z, m[2] * v.x + m[5] * v.y + m[8] * v.z}; }
  Vec to_camera(Vec p) const { return turn(p - Vec{pivot[0], pivot[1], pivot[2]}) + Vec{pivot[0], pivot[1], pivot[2]}; }
  Points to_own(Pack x, Pack y, float z) const {
    Pack dx = x - pivot[0], dy = y - pivot[1];
    float dz = z - pivot[2];
    return {m[0] * dx + m[3] * dy + m[6] * dz + pivot[0], m[1] * dx + m[4] * dy + m[7] * dz + pivot[1], m[2] * dx + m[5] * dy + m[8] * dz + pivot[2]};
  }
};

struct Scene {
  Params p;
  Layout at;
  Head head;
  Hair hair;
  Body body;
  Thing thing;
  Glasses glasses;
  Skin skin;
  Eyes eyes;
  Mouth mouth;
  Light light;
  Pose pose, trunk;
  Colour hair_c, hat_c, cloth, cloth2, neck_c, hand_c;
  Vec key_head, head_ball;

  explicit Scene(const Params& params)
      : p(params), at(p), head(p, at), hair(p), body(p), thing(p), glasses(p, at), skin(p, at), eyes(p, at), mouth(p, at), light(p),
        pose(p.yaw * kDegree, p.pitch * kDegree, p.roll * kDegree, 0.0f, 0.75f, -0.25f),
        trunk((0.35f * p.yaw + p.body_turn) * kDegree, 0.0f, 0.22f * p.roll * kDegree, 0.0f, 2.2f, -0.45f) {
    hair_c = mix(Colour{p.hair_r, p.hair_g, p.hair_b}, Colour{.66f, .655f, .65f}, clamp01(p.hair_grey));
    hat_c = {p.hat_r, p.hat_g, p.hat_b}, cloth = {p.cloth_r, p.cloth_g, p.cloth_b}, cloth2 = {p.cloth2_r, p.cloth2_g, p.cloth2_b};
    neck_c = skin_tone(p.neck_tone, p.neck_hue), hand_c = skin_tone(p.occluder_tone, 0.0f);
    key_head = pose.back(light.key), head_ball = pose.to_camera({0.0f, 0.25f, -0.05f});
  }
  Scene(const Scene&) = delete;  // parts hold references to each other
};

}  // namespace film
