/* The routines that R calls. init.c registers each with its number of arguments. */
#ifndef LAMINA_R_ROUTINES_H
#define LAMINA_R_ROUTINES_H

#include <Rinternals.h>

SEXP shim_info(void);
SEXP shim_status_name(SEXP status);
SEXP shim_catalogue(SEXP scope);
SEXP shim_theory(SEXP name, SEXP task, SEXP arguments, SEXP results);

SEXP shim_task_create(SEXP name, SEXP keys, SEXP values, SEXP arrays);
SEXP shim_task_from_matrix(SEXP prompts, SEXP targets, SEXP vocabulary, SEXP noise);
SEXP shim_task_from_function(SEXP sampler, SEXP vocabulary, SEXP noise);
SEXP shim_task_shape(SEXP task);
SEXP shim_task_tokens(SEXP task);
SEXP shim_task_sample(SEXP task, SEXP split, SEXP seed, SEXP first, SEXP count);

SEXP shim_model_create(SEXP task, SEXP keys, SEXP values, SEXP arrays);
SEXP shim_model_copy(SEXP model);
SEXP shim_model_isa(SEXP model);
SEXP shim_model_tensors(SEXP model);
SEXP shim_model_get(SEXP model);
SEXP shim_model_set(SEXP model, SEXP values);
SEXP shim_model_forward(SEXP model, SEXP prompts, SEXP part);
SEXP shim_model_loss_gradient(SEXP model, SEXP prompts, SEXP targets);

SEXP shim_trainer_create(SEXP task, SEXP model, SEXP keys, SEXP values, SEXP arrays);
SEXP shim_trainer_run(SEXP trainer, SEXP steps, SEXP function, SEXP seconds);
SEXP shim_trainer_step(SEXP trainer);
SEXP shim_trainer_model(SEXP trainer);
SEXP shim_trainer_task(SEXP trainer);
SEXP shim_trainer_options(SEXP trainer, SEXP keys);
SEXP shim_trainer_crossings(SEXP trainer);
SEXP shim_trainer_trajectory(SEXP trainer);
SEXP shim_trainer_save(SEXP trainer, SEXP path);
SEXP shim_trainer_load(SEXP path, SEXP task);

SEXP shim_ensemble_create(SEXP name, SEXP task, SEXP given, SEXP axes, SEXP values);
SEXP shim_ensemble_run(SEXP ensemble, SEXP function, SEXP seconds);
SEXP shim_ensemble_axes(SEXP ensemble);
SEXP shim_ensemble_status(SEXP ensemble);
SEXP shim_ensemble_option(SEXP ensemble, SEXP member, SEXP key);
SEXP shim_ensemble_table(SEXP ensemble, SEXP what, SEXP texts, SEXP numbers, SEXP confidence);
SEXP shim_ensemble_save(SEXP ensemble, SEXP path);
SEXP shim_ensemble_load(SEXP path, SEXP task);

SEXP shim_attention(SEXP arrays, SEXP layout, SEXP settings, SEXP wanted);
SEXP shim_attention_gradient(SEXP arrays, SEXP layout, SEXP settings, SEXP cotangents);

#endif
