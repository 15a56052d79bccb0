// The part of the network that sees positions: from the query row of W to c = sum_h a_h x_h, and back. Two of them: over token
// pairs (embeddings' own basis, exact and independent of d), and over dense vectors by attention (any orthonormal embeddings).
#pragma once
#include <cstdint>
#include <memory>

#include "model/parametrisation.hpp"

namespace lamina {

// Prompts as a front reads them.
class FrontPrompts {
 public:
  virtual ~FrontPrompts() = default;
};

// Memory of one thread for one chunk of prompts.
class FrontScratch {
 public:
  virtual ~FrontScratch() = default;
};

template <class T>
class Front {
 public:
  virtual ~Front() = default;
  virtual std::unique_ptr<FrontPrompts> compile(const Prompts& prompts) const = 0;
  virtual std::unique_ptr<FrontScratch> scratch(int64_t chunk_length) const = 0;
  virtual std::unique_ptr<Front> clone() const = 0;

  // c [count, d] for prompts first..first+count-1 and W [d, d]. masses (may be null): [count, 3], the sums of a_h over positions
  // after the trigger on the answer, after it on tau, and elsewhere.
  virtual void forward(const FrontPrompts& prompts, int64_t first, int64_t count, const T* W, T* c, double* masses,
                       FrontScratch& scratch) const = 0;
  // dW [d, d] += the gradient through dc [count, d], for the chunk that forward last saw with this scratch.
  virtual void backward(const FrontPrompts& prompts, int64_t first, int64_t count, const T* dc, T* dW,
                        FrontScratch& scratch) const = 0;
  // out [count, n] += x_H M [d, n]   and   dM [d, n] += x_H^T r [count, n].
  virtual void query_times(const FrontPrompts& prompts, int64_t first, int64_t count, const T* M, int64_t n, T* out,
                           FrontScratch& scratch) const = 0;
  virtual void query_outer(const FrontPrompts& prompts, int64_t first, int64_t count, const T* r, int64_t n, T* dM,
                           FrontScratch& scratch) const = 0;
};

template <class T>
std::unique_ptr<Front<T>> make_token_front(int64_t logits, kernels::Map map, const kernels::Table<T>& table);
template <class T>
std::unique_ptr<Front<T>> make_dense_front(const Parametrisation& form, const kernels::InstructionSet& isa);

}  // namespace lamina
