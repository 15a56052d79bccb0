// Compiled once per instruction set, with that set's flags: LAMINA_SET is its name, LAMINA_ARCH its name in xsimd.
#include "kernels/kernels_simd.hpp"

namespace lamina::kernels::LAMINA_SET {

extern const Table<float> f32;
extern const Table<double> f64;
constinit const Table<float> f32 = table_of_set<float>;
constinit const Table<double> f64 = table_of_set<double>;

}  // namespace lamina::kernels::LAMINA_SET
