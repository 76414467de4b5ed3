"""The cases whose results are committed."""

from __future__ import annotations

from typing import Any

MODEL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STABLE_DIFFUSION = {
    **MODEL,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
PIXELS = {"beta_schedule": "linear", "steps_offset": 0}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
SHORT = {"num_train_timesteps": 40, "trained_betas": [0.001 + 0.001 * i for i in range(40)]}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
V_TRAILING = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}

Case = dict[str, Any]


def about(name: str, base: dict[str, Any], step: dict[str, Any] | None = None, **fields: Any) -> Case:
    """A configuration with a name, and the options of step that go with it."""
    return {"name": name, "config": {**base, **fields}, "step": step or {}}


CONFIGS: dict[str, list[Case]] = {
    "PNDMScheduler": [
        about("Stable Diffusion 1.5", STABLE_DIFFUSION),
        about("v-prediction", STABLE_DIFFUSION, prediction_type="v_prediction"),
        about(
            "trailing, alpha one",
            {**STABLE_DIFFUSION, "timestep_spacing": "trailing", "set_alpha_to_one": True},
        ),
        about("linspace", STABLE_DIFFUSION, timestep_spacing="linspace"),
        about("Runge-Kutta start", PIXELS),
    ],
    "DDIMScheduler": [
        about("Stable Diffusion 1.5", STABLE_DIFFUSION),
        about("Stable Diffusion 2.1, eta 1", STABLE_DIFFUSION, {"eta": 1.0}, prediction_type="v_prediction"),
        about("clipped, eta 0.5", PIXELS, {"eta": 0.5}),
        about("clipped model output", PIXELS, {"useClippedModelOutput": True}, timestep_spacing="linspace"),
        about(
            "thresholding of samples",
            PIXELS,
            prediction_type="sample",
            thresholding=True,
            dynamic_thresholding_ratio=0.8,
            sample_max_value=3.0,
        ),
        about("zero terminal SNR", {**MODEL, **ZERO_SNR}, clip_sample=False),
    ],
    "DDPMScheduler": [
        about("Kandinsky decoder", {"beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}),
        about("fixed large variance, trailing", PIXELS, variance_type="fixed_large", timestep_spacing="trailing"),
        about("sigmoid, samples", {"beta_schedule": "sigmoid"}, prediction_type="sample", thresholding=True),
        about("Laplace, linspace", {"beta_schedule": "laplace"}, timestep_spacing="linspace"),
        about("zero terminal SNR", {**MODEL, **ZERO_SNR}, clip_sample=False),
    ],
    "UnCLIPScheduler": [
        about("Kandinsky prior", {}, prediction_type="sample", clip_sample_range=10.0),
        about("defaults", {}),
        about("unclipped noise of 100 timesteps", {"num_train_timesteps": 100}, clip_sample=False),
    ],
    "LMSDiscreteScheduler": [
        about("Stable Diffusion", STABLE_DIFFUSION),
        about("Karras, v-prediction", MODEL, use_karras_sigmas=True, prediction_type="v_prediction"),
        about("exponential samples, trailing", MODEL, use_exponential_sigmas=True, timestep_spacing="trailing"),
    ],
    "HeunDiscreteScheduler": [
        about("Stable Diffusion", STABLE_DIFFUSION),
        about("Karras, leading", MODEL, use_karras_sigmas=True, timestep_spacing="leading", steps_offset=1),
        about("exp betas, clipped", {"beta_schedule": "exp"}, clip_sample=True, clip_sample_range=2.0),
        about("beta samples", MODEL, use_beta_sigmas=True, prediction_type="sample"),
    ],
    "KDPM2DiscreteScheduler": [
        about("Stable Diffusion", STABLE_DIFFUSION),
        about("Karras, v-prediction", MODEL, use_karras_sigmas=True, prediction_type="v_prediction"),
        about("exponential with ends", MODEL, use_exponential_sigmas=True, sigma_min=0.05, sigma_max=9.0),
    ],
    "KDPM2AncestralDiscreteScheduler": [
        about("Stable Diffusion", STABLE_DIFFUSION),
        about("Karras", MODEL, use_karras_sigmas=True),
        about("leading, v-prediction", MODEL, timestep_spacing="leading", prediction_type="v_prediction"),
    ],
    "DPMSolverSDEScheduler": [
        about("Stable Diffusion", STABLE_DIFFUSION),
        about("Karras, v-prediction", MODEL, use_karras_sigmas=True, prediction_type="v_prediction"),
        about("deterministic part, trailing", MODEL, {"sNoise": 0.0}, timestep_spacing="trailing"),
    ],
    "EulerDiscreteScheduler": [
        about("SDXL", MODEL, timestep_spacing="leading", steps_offset=1),
        about("SD turbo", MODEL, timestep_spacing="trailing"),
        about("latent upscaler", MODEL, interpolation_type="log_linear", prediction_type="original_sample"),
        about("Karras", MODEL, use_karras_sigmas=True),
        about("exponential with ends", MODEL, use_exponential_sigmas=True, sigma_min=0.02, sigma_max=12.0),
        about("beta", MODEL, use_beta_sigmas=True, final_sigmas_type="sigma_min"),
        about("continuous v-prediction", MODEL, timestep_type="continuous", prediction_type="v_prediction"),
        about("churned", MODEL, {"sChurn": 8.0, "sTmin": 0.1, "sTmax": 12.0, "sNoise": 1.003}),
        about("zero terminal SNR", {**MODEL, **ZERO_SNR}),
    ],
    "EulerAncestralDiscreteScheduler": [
        about("SDXL turbo", MODEL, timestep_spacing="trailing", steps_offset=1),
        about("linspace v-prediction", MODEL, prediction_type="v_prediction"),
        about("leading", MODEL, timestep_spacing="leading", steps_offset=1),
    ],
    "DPMSolverMultistepScheduler": [
        about("DPM++ 2M", MODEL),
        about("DPM++ 2M Karras", MODEL, use_karras_sigmas=True),
        about("DPM++ 2M SDE Karras", MODEL, use_karras_sigmas=True, algorithm_type="sde-dpmsolver++"),
        about("third order", MODEL, solver_order=3),
        about(
            "third order SDE",
            MODEL,
            solver_order=3,
            algorithm_type="sde-dpmsolver++",
            euler_at_final=True,
            final_sigmas_type="sigma_min",
        ),
        about(
            "Heun, v-prediction, leading",
            MODEL,
            solver_type="heun",
            prediction_type="v_prediction",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        about(
            "DPM-Solver",
            MODEL,
            algorithm_type="dpmsolver",
            solver_order=3,
            final_sigmas_type="sigma_min",
            lower_order_final=False,
        ),
        about(
            "DPM-Solver SDE, Heun",
            MODEL,
            algorithm_type="sde-dpmsolver",
            solver_type="heun",
            final_sigmas_type="sigma_min",
        ),
        about("exponential", MODEL, use_exponential_sigmas=True),
        about("beta", MODEL, use_beta_sigmas=True),
        about("Lu", MODEL, use_lu_lambdas=True),
        about("flow", MODEL, use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"),
        about("clipped cosine, trailing", COSINE, lambda_min_clipped=-5.1, timestep_spacing="trailing"),
        about(
            "thresholded samples",
            PIXELS,
            thresholding=True,
            dynamic_thresholding_ratio=0.8,
            sample_max_value=2.0,
            prediction_type="sample",
        ),
        about("trained betas", SHORT),
    ],
    "DPMSolverSinglestepScheduler": [
        about("DPM++ 2S", MODEL),
        about("DPM++ 2S Karras", MODEL, use_karras_sigmas=True, solver_type="heun"),
        about("third order", MODEL, solver_order=3, final_sigmas_type="sigma_min"),
        about(
            "third order SDE, Heun",
            MODEL,
            solver_order=3,
            solver_type="heun",
            algorithm_type="sde-dpmsolver++",
            prediction_type="v_prediction",
        ),
        about(
            "DPM-Solver",
            MODEL,
            algorithm_type="dpmsolver",
            solver_order=3,
            solver_type="heun",
            final_sigmas_type="sigma_min",
            lower_order_final=True,
        ),
    ],
    "DEISMultistepScheduler": [
        about("second order", MODEL),
        about("third order, exponential", MODEL, solver_order=3, use_exponential_sigmas=True),
        about("third order, v-prediction, trailing", MODEL, solver_order=3, **V_TRAILING),
        about("flow", MODEL, use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"),
    ],
    "UniPCMultistepScheduler": [
        about("second order", MODEL),
        about("third order, Karras", MODEL, solver_order=3, use_karras_sigmas=True),
        about(
            "third order in noise, bh1",
            MODEL,
            solver_order=3,
            solver_type="bh1",
            predict_x0=False,
            final_sigmas_type="sigma_min",
            disable_corrector=[0, 3],
        ),
        about("zero terminal SNR", {**MODEL, **ZERO_SNR}),
        about("flow", MODEL, use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"),
    ],
    "LCMScheduler": [
        about("LCM Dreamshaper", {**MODEL, "original_inference_steps": 50, "set_alpha_to_one": True}),
        about("all timesteps, v-prediction", MODEL, original_inference_steps=1000, **V_TRAILING),
        about("clipped, other scaling", PIXELS, clip_sample=True, timestep_scaling=0.02),
    ],
    "TCDScheduler": [
        about("eta 0.3", MODEL),
        about("eta 0", MODEL, {"eta": 0.0}, prediction_type="v_prediction"),
        about("eta 1, samples", {**MODEL, "original_inference_steps": 100}, {"eta": 1.0}, prediction_type="sample"),
    ],
}
SCHEDULES: list[dict[str, Any]] = [
    {"numInferenceSteps": 1},
    {"numInferenceSteps": 2},
    {"numInferenceSteps": 7},
    {"numInferenceSteps": 10, "strength": 0.8},
    {"numInferenceSteps": 25, "strength": 0.3},
    {"numInferenceSteps": 50},
]


def runs(class_name: str, config: dict[str, Any], start: dict[str, Any]) -> bool:
    """Whether diffusers gets through."""
    steps = start["numInferenceSteps"]
    if class_name == "PNDMScheduler" and not config.get("skip_prk_steps") and steps < 4:
        return False
    if class_name == "UnCLIPScheduler" and steps < 2:
        return False
    # Beta sigmas round the first two of 50 timesteps alike; the loop then runs out of sigmas.
    beta_clash = config.get("use_beta_sigmas", False) and start == {"numInferenceSteps": 50}
    return steps <= config.get("num_train_timesteps", 1000) and not beta_clash


def single(name: str, class_name: str, config: dict[str, Any], start: dict[str, Any], **more: Any) -> Case:
    return {"name": name, "className": class_name, "config": config, "start": start, **more}


XL_TIMESTEPS = [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]
XL_SIGMAS = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.0]
FLOW = {**MODEL, "use_flow_sigmas": True, "prediction_type": "flow_prediction", "use_dynamic_shifting": True}


def special() -> list[Case]:
    euler, solver = "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"
    sd = STABLE_DIFFUSION
    repeated = {"timesteps": [999, 850, 736, 736, 455, 343, 24], "strength": 0.75}
    few_sigmas = {"sigmas": [14.615, 6.315, 3.771, 2.181, 1.342, 0.0], "strength": 0.6}
    single_step, unipc = "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"
    positions = {"sigmas": [1.0, 0.9, 0.7, 0.45, 0.2, 0.05]}
    flow = {**MODEL, "use_flow_sigmas": True, "prediction_type": "flow_prediction", "shift_terminal": 0.1}
    learned = {**PIXELS, "variance_type": "learned_range"}
    root = {**PIXELS, "variance_type": "learned"}
    prior = {"variance_type": "learned_range"}
    split = {"extraChannels": 2}
    return [
        single("50 steps at strength 0.8", "PNDMScheduler", sd, {"numInferenceSteps": 50, "strength": 0.8}),
        single("a truncated product", "DDIMScheduler", sd, {"numInferenceSteps": 50, "strength": 0.58}),
        single("custom timesteps", euler, MODEL, {"timesteps": XL_TIMESTEPS, "strength": 0.5}),
        single("custom timesteps with one twice", euler, MODEL, repeated),
        single("custom sigmas", euler, MODEL, {"sigmas": XL_SIGMAS}),
        single("custom sigmas and strength", euler, MODEL, few_sigmas),
        single("custom timesteps", solver, MODEL, {"timesteps": XL_TIMESTEPS, "strength": 0.5}),
        single("custom timesteps", single_step, MODEL, {"timesteps": XL_TIMESTEPS, "strength": 0.5}),
        single("custom sigmas", unipc, {**flow, "flow_shift": 3.0}, positions),
        single("dynamic flow shift", unipc, FLOW, {"numInferenceSteps": 6, "strength": 0.7, "mu": 0.7}),
        single("custom timesteps", "LCMScheduler", MODEL, {"timesteps": XL_TIMESTEPS, "strength": 0.5}),
        single("custom timesteps", "TCDScheduler", MODEL, {"timesteps": XL_TIMESTEPS}),
        single("dynamic flow shift", solver, FLOW, {"numInferenceSteps": 6, "mu": 0.7}),
        single(
            "learned variance", solver, learned, {"numInferenceSteps": 5}, extraChannels=3, shape=[1, 3, 2, 2]
        ),
        single("learned range", "DDPMScheduler", learned, {"numInferenceSteps": 5}, **split),
        single("learned variance", "DDPMScheduler", root, {"numInferenceSteps": 5}, **split),
        single("custom timesteps", "DDPMScheduler", PIXELS, {"timesteps": XL_TIMESTEPS, "strength": 0.5}),
        single("learned range", "UnCLIPScheduler", prior, {"numInferenceSteps": 5}, **split),
        single("custom timesteps", "HeunDiscreteScheduler", MODEL, {"timesteps": XL_TIMESTEPS, "strength": 0.6}),
        single(
            "49 trailing steps that are 50",
            "DDIMScheduler",
            {**MODEL, "timestep_spacing": "trailing"},
            {"numInferenceSteps": 49},
        ),
    ]


def half_precision(dtype: str) -> list[Case]:
    """The noise level itself is rounded, and fresh noise is drawn in the dtype, but for DPM-Solver."""
    img2img, text2img = {"numInferenceSteps": 10, "strength": 0.6}, {"numInferenceSteps": 3}
    solver = "DPMSolverMultistepScheduler"
    sde = {**MODEL, "algorithm_type": "sde-dpmsolver++"}
    level, fresh = f"noise level in {dtype}", f"fresh noise in {dtype}"
    made = [
        single(level, "DDIMScheduler", STABLE_DIFFUSION, img2img),
        single(level, "PNDMScheduler", STABLE_DIFFUSION, img2img),
        single(level, "EulerDiscreteScheduler", MODEL, img2img),
        single(level, solver, MODEL, img2img),
        single(level + " of a flow", solver, {**MODEL, "use_flow_sigmas": True}, img2img),
        single(level, "DDPMScheduler", PIXELS, img2img),
        single(level, "HeunDiscreteScheduler", MODEL, img2img),
        single(fresh, "DDPMScheduler", PIXELS, text2img),
        single(fresh, solver, sde, text2img),
        single(fresh, "DPMSolverSinglestepScheduler", sde, text2img),
        single(fresh, "LCMScheduler", MODEL, text2img),
        single(fresh, "EulerAncestralDiscreteScheduler", MODEL, text2img),
        single(fresh, "DDIMScheduler", MODEL, text2img, step={"eta": 1.0}),
    ]
    return [{**case, "dtype": dtype} for case in made]


def cases() -> list[Case]:
    made = []
    for class_name, configs in CONFIGS.items():
        for one in configs:
            for start in SCHEDULES:
                if not runs(class_name, one["config"], start):
                    continue
                name = f"{one['name']}, {start['numInferenceSteps']} steps"
                if "strength" in start:
                    name += f", strength {start['strength']}"
                step = {"step": one["step"]} if one["step"] else {}
                made.append(single(name, class_name, one["config"], start, **step))
    made += special() + half_precision("float16") + half_precision("bfloat16")
    return [{"shape": [1, 2, 2, 2], "seed": 7, **case} for case in made]
