// Vectors of the instruction set that the including file is compiled for. Everything here has
// internal linkage, so that no other file ever runs it.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace torchbrush::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));

using Bf16 = uint16_t;

inline Floats Splat(float value) { return value - Floats{}; }
inline Floats Zero() { return Floats{}; }

inline Floats Load(const float* from) {
  Floats value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline Floats Load(const Bf16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
}

inline void Store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

// Rounds to the nearest, ties to even; what is no number stays so.
inline Halves Rounded(Floats value) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(value)));
#else
  const Words bits = reinterpret_cast<Words>(value);
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words ordered = reinterpret_cast<Words>(value == value);
  return __builtin_convertvector((rounded & ordered) | (0x7fc0 & ~ordered), Halves);
#endif
}

inline void Store(Bf16* to, Floats value) {
  const Halves halves = Rounded(value);
  std::memcpy(to, &halves, sizeof halves);
}

inline float Number(float value) { return value; }

inline float Number(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

// One number, rounded as a vector of them is.
inline void StoreOne(float* to, float value) { *to = value; }

inline void StoreOne(Bf16* to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *to = value == value ? static_cast<Bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) : Bf16{0x7fc0};
}

inline Floats Max(Floats a, Floats b) { return a > b ? a : b; }

inline float Sum(Floats value) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += value[i];
  return sum;
}

inline float Largest(Floats value) {
  float largest = value[0];
  for (int i = 1; i < kLanes; ++i) largest = value[i] > largest ? value[i] : largest;
  return largest;
}

// 2^x for x up to 127, to a relative error of 1e-7, or with `kRough` of 7e-5, far below bfloat16's
// own. Less than 2^-126 may become 2^-126.
template <bool kRough = false>
inline Floats Exp2(Floats x) {
#if defined(__AVX512F__)
  if constexpr (kRough) {
    const __m512 v = reinterpret_cast<__m512>(x);
    const Floats r = reinterpret_cast<Floats>(_mm512_reduce_ps(v, 0x01));  // x − ⌊x⌋
    const Floats p = ((r * 0.0780245222172164f + 0.22606717106182256f) * r + 0.6958335265637339f) * r +
                     0.9999252207922471f;
    return reinterpret_cast<Floats>(_mm512_scalef_ps(reinterpret_cast<__m512>(p), v));  // p·2^⌊x⌋
  }
#endif
  x = Max(x, Splat(-126.0f));
  const Floats shifter = Splat(12582912.0f);  // 1.5·2²³: adding it leaves the nearest whole number.
  const Floats shifted = x + shifter;
  const Floats r = x - (shifted - shifter);
  Floats p = Splat(0.0013276471736216634f);
  p = p * r + 0.009675541540186542f;
  p = p * r + 0.055507132760977164f;
  p = p * r + 0.2402211972007284f;
  p = p * r + 0.6931469670620389f;
  p = p * r + 1.0f;
  const Ints whole = reinterpret_cast<Ints>(shifted) - reinterpret_cast<Ints>(shifter);
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + (whole << 23));
}

constexpr float kLog2E = 1.44269504088896341f;

// x/(1 + e^(−factor·x)): SiLU, or with 1.702 what CLIP takes for GELU.
inline Floats Silu(Floats x, float factor = 1) {
  // Beyond 87 the divisor is 1+2^-126 or 2^126 already.
  const Floats exponent = Max(Splat(-126.0f), x * (-factor * kLog2E));
  return x / (1.0f + Exp2(exponent < 126.0f ? exponent : Splat(126.0f)));
}

// x·Φ(x). erfc(z) = e^(−z²)·P(1/(1+pz)) as in Abramowitz & Stegun 7.1.26, with seven terms fitted to
// an absolute error of 4e-9.
inline Floats Gelu(Floats x) {
  const Floats z = Max(x, -x) * 0.70710678118654752f;
  const Floats t = 1.0f / (1.0f + 0.3275911f * z);
  Floats p = Splat(-0.2984502249917719f);
  p = p * t + 1.5048171742957344f;
  p = p * t - 2.0855457159527258f;
  p = p * t + 2.0401000136823115f;
  p = p * t - 0.7490645870653724f;
  p = p * t + 0.43110292291416724f;
  p = p * t + 0.1570404206195369f;
  const Floats half = 0.5f * (p * t) * Exp2(z * z * -kLog2E);  // What lies beyond |x|.
  return x * (x < 0.0f ? half : 1.0f - half);
}

}  // namespace
}  // namespace torchbrush::kernels
