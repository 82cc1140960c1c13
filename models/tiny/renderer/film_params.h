// The parameters of one person of the film look, in the order of the float array that Python passes. Each group begins
// with the first look's names, so that code which sets a pose or a mouth by name serves both.
#pragma once

#include "params.h"

// clang-format off
#define FILM_INNER(X) FACE_INNER(X) \
  X(age) X(nose_bridge) X(nose_wing) X(cheek) X(lid_fold) X(iris_size) X(lip_balance) X(philtrum) X(brow_gap) X(eye_deep)
#define FILM_OUTER(X) FACE_OUTER(X) \
  X(hair_quiff) X(hair_fringe) X(hair_sweep) X(hair_wave) X(hair_tail) X(hair_recede) X(hair_grey) X(earring) X(necklace) \
  X(cloth_kind) X(cloth2_r) X(cloth2_g) X(cloth2_b) X(shoulders)
// round, press, tuck and tongue complete open, wide and smile to the mouth shapes of speech.
// rim: a light from behind; sky and floor: the colour of what surrounds the person.
#define FILM_NUISANCE(X) FACE_NUISANCE(X) \
  X(round) X(press) X(tuck) X(tongue) X(squint) X(brow_tense) \
  X(rim_x) X(rim_gain) X(rim_r) X(rim_g) X(rim_b) X(sky_r) X(sky_g) X(sky_b) X(floor_r) X(floor_g) X(floor_b) \
  X(occluder_tone) X(body_turn)
// clang-format on

namespace film {

struct Params {
#define X(name) float name;
  FILM_INNER(X) FILM_OUTER(X) FILM_NUISANCE(X)
#undef X
};

#define X(name) #name ","
static const char* const kInnerNames = FILM_INNER(X);
static const char* const kOuterNames = FILM_OUTER(X);
static const char* const kNuisanceNames = FILM_NUISANCE(X);
#undef X

// BiSeNet's nineteen classes, as the contract of the parser lists them. Left is the image's left, as there.
enum Class : unsigned char {
  kBackground, kSkin, kLeftBrow, kRightBrow, kLeftEye, kRightEye, kGlasses, kLeftEar, kRightEar, kEarring,
  kNose, kMouth, kUpperLip, kLowerLip, kNeck, kNecklace, kCloth, kHair, kHat, kClasses
};

}  // namespace film
