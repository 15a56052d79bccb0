/* Registration: R finds these routines and no other symbol of the library. */
#include "routines.h"

#include <R_ext/Rdynload.h>
#include <R_ext/Visibility.h>

/* void (*)(void) is the type that compilers let stand for every function. */
#define ROUTINE(name, arguments) \
  { #name, (DL_FUNC)(void (*)(void)) & name, arguments }

static const R_CallMethodDef routines[] = {
    ROUTINE(shim_info, 0),
    ROUTINE(shim_status_name, 1),
    ROUTINE(shim_catalogue, 1),
    ROUTINE(shim_theory, 4),
    ROUTINE(shim_task_create, 4),
    ROUTINE(shim_task_from_matrix, 4),
    ROUTINE(shim_task_from_function, 3),
    ROUTINE(shim_task_shape, 1),
    ROUTINE(shim_task_tokens, 1),
    ROUTINE(shim_task_sample, 5),
    ROUTINE(shim_model_create, 4),
    ROUTINE(shim_model_copy, 1),
    ROUTINE(shim_model_isa, 1),
    ROUTINE(shim_model_tensors, 1),
    ROUTINE(shim_model_get, 1),
    ROUTINE(shim_model_set, 2),
    ROUTINE(shim_model_forward, 3),
    ROUTINE(shim_model_loss_gradient, 3),
    ROUTINE(shim_trainer_create, 5),
    ROUTINE(shim_trainer_run, 4),
    ROUTINE(shim_trainer_step, 1),
    ROUTINE(shim_trainer_model, 1),
    ROUTINE(shim_trainer_task, 1),
    ROUTINE(shim_trainer_options, 2),
    ROUTINE(shim_trainer_crossings, 1),
    ROUTINE(shim_trainer_trajectory, 1),
    ROUTINE(shim_trainer_save, 2),
    ROUTINE(shim_trainer_load, 2),
    ROUTINE(shim_ensemble_create, 5),
    ROUTINE(shim_ensemble_run, 3),
    ROUTINE(shim_ensemble_axes, 1),
    ROUTINE(shim_ensemble_status, 1),
    ROUTINE(shim_ensemble_option, 3),
    ROUTINE(shim_ensemble_table, 5),
    ROUTINE(shim_ensemble_save, 2),
    ROUTINE(shim_ensemble_load, 2),
    ROUTINE(shim_attention, 4),
    ROUTINE(shim_attention_gradient, 4),
    {NULL, NULL, 0},
};

attribute_visible void R_init_lamina(DllInfo* library) {
  R_registerRoutines(library, NULL, routines, NULL, NULL);
  R_useDynamicSymbols(library, FALSE);
  R_forceSymbols(library, TRUE);
}
