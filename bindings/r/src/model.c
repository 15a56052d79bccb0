/* The section model of lamina.h. Tensors cross as one flat vector; R gives them their shapes. A model's handle keeps its
 * task's. */
#include "routines.h"
#include "shim.h"

static SEXP task_of(SEXP model) {
  return R_ExternalPtrProtected(model);
}

static int64_t parameter_count(const lamina_model* model) {
  int64_t count = 0;
  check(lamina_model_parameter_count(model, &count));
  return count;
}

static int64_t outputs_of(SEXP model) {
  lamina_task_shape shape;
  check(lamina_task_shape_init(&shape, sizeof shape));
  check(lamina_task_get_shape(handle_get(task_of(model), &task_kind), &shape));
  return shape.outputs;
}

SEXP shim_model_create(SEXP task, SEXP keys, SEXP values, SEXP arrays) {
  SEXP options = PROTECT(options_new(keys, values, arrays));
  SEXP handle = PROTECT(handle_new(&model_kind, task));
  lamina_model* model = NULL;
  check(lamina_model_create(handle_get(task, &task_kind), handle_get(options, &options_kind), &model));
  handle_set(handle, model);
  UNPROTECT(2);
  return handle;
}

SEXP shim_model_copy(SEXP original) {
  const lamina_model* from = handle_get(original, &model_kind);
  SEXP handle = PROTECT(handle_new(&model_kind, task_of(original)));
  lamina_model* model = NULL;
  check(lamina_model_copy(from, &model));
  handle_set(handle, model);
  UNPROTECT(1);
  return handle;
}

SEXP shim_model_isa(SEXP handle) {
  return text_new(lamina_model_isa(handle_get(handle, &model_kind)));
}

/* list(name, trained, offset, shape), one element of each a tensor. */
SEXP shim_model_tensors(SEXP handle) {
  static const char* names[] = {"name", "trained", "offset", "shape", ""};
  const lamina_model* model = handle_get(handle, &model_kind);
  int64_t count = 0;
  check(lamina_model_tensor_count(model, &count));
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(list, 0, Rf_allocVector(STRSXP, count));
  SET_VECTOR_ELT(list, 1, Rf_allocVector(LGLSXP, count));
  SET_VECTOR_ELT(list, 2, Rf_allocVector(REALSXP, count));
  SET_VECTOR_ELT(list, 3, Rf_allocVector(VECSXP, count));
  for (int64_t i = 0; i < count; ++i) {
    lamina_tensor tensor;
    check(lamina_tensor_init(&tensor, sizeof tensor));
    check(lamina_model_tensor_describe(model, i, &tensor));
    SET_STRING_ELT(VECTOR_ELT(list, 0), i, Rf_mkCharCE(tensor.name, CE_UTF8));
    LOGICAL(VECTOR_ELT(list, 1))[i] = tensor.trained;
    REAL(VECTOR_ELT(list, 2))[i] = (double)tensor.offset;
    SEXP shape = Rf_allocVector(REALSXP, tensor.rank);
    SET_VECTOR_ELT(VECTOR_ELT(list, 3), i, shape);
    for (int64_t axis = 0; axis < tensor.rank; ++axis) REAL(shape)[axis] = (double)tensor.shape[axis];
  }
  UNPROTECT(1);
  return list;
}

SEXP shim_model_get(SEXP handle) {
  const lamina_model* model = handle_get(handle, &model_kind);
  const int64_t count = parameter_count(model);
  SEXP values = PROTECT(Rf_allocVector(REALSXP, count));
  check(lamina_model_get_parameters(model, REAL(values), count));
  UNPROTECT(1);
  return values;
}

SEXP shim_model_set(SEXP handle, SEXP values) {
  lamina_model* model = handle_get(handle, &model_kind);
  check(lamina_model_set_parameters(model, numbers_get(values, XLENGTH(values), "parameters"), XLENGTH(values)));
  return R_NilValue;
}

/* prompts [length, count]; logits [outputs, count] of part 0, 1, 2, or attention weights [length, count] of part -1. */
SEXP shim_model_forward(SEXP handle, SEXP prompts, SEXP part) {
  const lamina_model* model = handle_get(handle, &model_kind);
  const int length = Rf_nrows(prompts), count = Rf_ncols(prompts), wanted = Rf_asInteger(part);
  const double* tokens = numbers_get(prompts, (int64_t)length * count, "prompts");
  SEXP out = PROTECT(Rf_allocMatrix(REALSXP, wanted < 0 ? length : (int)outputs_of(handle), count));
  check(wanted < 0 ? lamina_model_attention(model, tokens, count, length, REAL(out))
                   : lamina_model_forward(model, tokens, count, length, wanted, REAL(out)));
  UNPROTECT(1);
  return out;
}

/* prompts [length, count], targets [target_width, count], checked in R; list(loss, gradient). */
SEXP shim_model_loss_gradient(SEXP handle, SEXP prompts, SEXP targets) {
  static const char* names[] = {"loss", "gradient", ""};
  const lamina_model* model = handle_get(handle, &model_kind);
  const int length = Rf_nrows(prompts), count = Rf_ncols(prompts);
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(out, 0, Rf_allocVector(REALSXP, 1));
  SET_VECTOR_ELT(out, 1, Rf_allocVector(REALSXP, parameter_count(model)));
  check(lamina_model_loss_gradient(model, numbers_get(prompts, (int64_t)length * count, "prompts"),
                                   numbers_get(targets, (int64_t)Rf_nrows(targets) * count, "targets"), count, length, REAL(VECTOR_ELT(out, 0)),
                                   REAL(VECTOR_ELT(out, 1))));
  UNPROTECT(1);
  return out;
}
