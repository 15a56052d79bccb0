// xsimd's own exp2 of an array, compiled once per instruction set: what exp2.cpp compares lamina's with.
#include <cstdint>
#include <xsimd/xsimd.hpp>

namespace xsimd_exp2::LAMINA_SET {

template <class T>
void row(int64_t n, const T* x, T* y) {
  using Batch = xsimd::batch<T, LAMINA_ARCH>;
  for (int64_t i = 0; i + static_cast<int64_t>(Batch::size) <= n; i += Batch::size)
    xsimd::exp2(Batch::load_unaligned(x + i)).store_unaligned(y + i);
}
template void row<float>(int64_t, const float*, float*);
template void row<double>(int64_t, const double*, double*);

}  // namespace xsimd_exp2::LAMINA_SET
