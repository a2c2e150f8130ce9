"""Every field of a run, with its default: a small decoder on Shakespeare.

Command: normjax train configs/default.py --out=runs/default
Time: about 15 s on two cores, compilation included.
"""

import ml_collections

from normjax import configure


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The default config; `:debug` shrinks it to a few seconds."""
  config = ml_collections.ConfigDict()

  # Initialization, data order and dropout are named streams of this one seed.
  config.seed = 0

  # Components: a name and that component's own options, whose defaults are
  # in configs/<folder>/<name>.py. Changing a name brings the new defaults.
  # One's own is "package.module:factory"; its signature says the defaults.
  config.model = configure.component("model", "llama")
  config.norm = configure.component("norm", "rms_norm")
  config.optimizer = configure.component(
    "optimizer", "adamw", learning_rate=3e-3
  )
  config.data = configure.component("data", "shakespeare")
  # The loss: "" takes what the data's targets ask for, cross_entropy of classes
  # and squared_error of values.
  config.objective = configure.component("objective", "")

  # The learning rate at step t is optimizer.learning_rate times this. One's own
  # is "package.module:f", called as f(step, scalars, **its options).
  config.schedule = ml_collections.ConfigDict()
  config.schedule.name = "warmup_cosine"  # constant linear warmup_cosine wsd
  config.schedule.warmup_fraction = 0.1  # of train.num_steps, rising linearly
  config.schedule.decay_fraction = 0.2  # wsd only: the last part, falling
  config.schedule.final_fraction = 0.1  # of the peak, at the last step
  # Another name is step_decay: at each of these fractions of all steps the rate
  # falls to a tenth.
  config.schedule.milestones = ()
  # Another is cosine_restarts: the cosine, to which the rate rises again from
  # zero over so many steps of each cycle. 0 steps per cycle: as layers of
  # model.linear="relora(restart_every=5000)" restart.
  config.schedule.restart_every = 0
  config.schedule.restart_warmup_steps = 0

  config.train = ml_collections.ConfigDict()
  config.train.num_steps = 300  # optimizer steps; the schedule ends here
  config.train.batch_size = 16  # examples of one step, over all devices
  config.train.accumulation_steps = 1  # micro-batches per step, by scan
  # What the optimizer is given: the gradient, or an estimate of it without a
  # backward pass, "zeroth_order", with options as in
  # "zeroth_order(derivative='one_sided', num_directions=4)". Its norm is about
  # sqrt(number of parameters) times the gradient's: set gradient_clip to 0 and
  # the learning rate to a thousandth or less.
  config.train.gradient = "backpropagation"
  config.train.perturbation_eps = 1e-3  # of zeroth_order: w + eps z
  config.train.gradient_clip = 1.0  # global norm; 0 turns clipping off
  # Whether these keep their initial values: the parameters of the norms, those
  # of the output layer (the model's `head`), all others. The last two together
  # train the norms only (arXiv:2003.00152). Running statistics always move.
  config.train.norms_frozen = False
  config.train.output_frozen = False
  config.train.others_frozen = False
  config.train.precision = "float32"  # or bfloat16: compute only
  # What the operands of the model's float32 products are rounded to, on a
  #              CPU       GPU                           TPU
  #   float32    float32   float32                       float32
  #   tf32       float32   tf32                          three bfloat16 parts
  #   bfloat16   float32   bfloat16, convolutions tf32   bfloat16
  #   default    float32   tf32                          bfloat16
  # Sums are float32. Optimizers state their own; bfloat16 compute has hardly
  # any such product. run.json says what it was.
  config.train.matmul_precision = "float32"
  # What parameters are held in; they are read as float32, which gradients and
  # moments are in too. In bfloat16 an update below a 256th of its weight is
  # lost, unless it is rounded at random ("stochastic") or what is lost is kept
  # ("kahan", 2 bytes more): optim.rounded_parameters.
  config.train.param_dtype = "float32"  # or bfloat16
  config.train.param_rounding = "nearest"  # or stochastic, kahan
  config.train.label_smoothing = 0.0
  config.train.z_loss = 0.0  # times mean(logsumexp(logits)^2)
  # Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899) of images, as timm
  # has them: alpha is of the Beta distribution, 0 turns one off.
  config.train.mixup_alpha = 0.0
  config.train.cutmix_alpha = 0.0
  config.train.mixup_probability = 1.0  # that anything is mixed
  config.train.mixup_switch_probability = 0.5  # cutmix, where both are on
  # What is drawn once: "batch", each "element", or those with cutmix on one of
  # the batch's "halves" (NFNets).
  config.train.mixup_mode = "batch"
  # An exponential average of weights and running statistics, from their start;
  # 0: none. With warm-up it is at most (1 + step) / (10 + step) (NFNets).
  config.train.ema_decay = 0.0
  config.train.ema_warmup = False
  # Updates of layer l of n times this^(n - l), weight decay included: the
  # embedding is layer 0, the head n (BEiT, MAE, timm).
  config.train.layer_decay = 1.0
  # Of an optimizer that moves some layers at a time (badam, lisa, bcd): only
  # their gradients are computed. Compiles once per choice of layers, or once
  # where model.scan_layers makes a loop of them.
  config.train.block_gradients = False
  config.train.max_loss = 100.0  # a larger or non-finite loss is divergence
  config.train.num_devices = 0  # of the program; 0: all there are
  # What is split over them: axes of a mesh, whose sizes multiply to the number
  # of devices. As it is here, every device has the whole model and a part of
  # the batch. `fsdp` splits batch and parameters, `tensor` heads and hidden
  # features. `normjax show` prints what lies where.
  config.train.layout = ml_collections.ConfigDict()
  config.train.layout.data = 0  # 0: what fsdp and tensor leave
  config.train.layout.fsdp = 1
  config.train.layout.tensor = 1
  # Parameters with fewer entries are whole on every device.
  config.train.layout.min_size = 2**14
  # Who computes what of an optimizer's matrices (Muon, SWAN, SOAP, Conda):
  # "distributed", whole matrices shared out over the devices; "local", as
  # parameters lie; "auto", the first where these are split.
  config.train.layout.matrices = "auto"
  # What a norm's batch statistics are of: the "global" batch, or the part that
  # a "device" has, where it has the whole model.
  config.train.layout.batch_statistics = "global"
  # What training starts from: the folder of a run with checkpoints, whose last
  # one gives parameters and statistics, or a tuple of steps that are taken in
  # order: "<folder>/" (with a slash), "deploy" (each norm after a convolution
  # folded into it) and "package.module:factory(option=value)" of one's own (a
  # function that returns a normjax.nn.start.StartStep). A run's model must be
  # the one that its step meets: ("runs/a", "deploy") folds what a has learned,
  # ("deploy", "runs/b") goes on from b, which was folded itself. Then the
  # optimizer starts afresh. Empty: the model as it is drawn. On the command
  # line: --config.train.initialize_from="('runs/a', 'deploy')".
  config.train.initialize_from = ml_collections.FieldReference(
    "",
    field_type=object,  # either type
  )
  # Reproducible kernels on a GPU, at some cost in speed (CPU and TPU always
  # are); recorded in run.json.
  config.train.deterministic = False

  # Classes come in tasks, one after the other, which share train.num_steps
  # equally: a learner of normjax.continual, as "derpp(alpha=0.1, beta=0.5)",
  # whose loss takes the place of the objective's. "": all classes at once.
  config.continual = ml_collections.ConfigDict()
  config.continual.learner = ""
  config.continual.num_tasks = 5  # of as many classes each
  config.continual.buffer_size = 500  # old examples that are kept
  config.continual.replay_size = 10  # of them, in each draw of a step
  # How these pass the model: "separate" from the new ones, or "joint" with
  # them, in one batch. To a norm of batches that is a difference of its own.
  config.continual.forward = "separate"
  config.continual.penalty = 0.0  # weighs that of the norm adab2n
  config.continual.penalty_from = 0  # the first task with it, from 0

  # Examples of their domain normalize a prediction: a method of
  # normjax.context, as "cs_arm_bn", for data that says domains. Each of
  # train.accumulation_steps micro-batches is then of one domain. "": none.
  config.context = ml_collections.ConfigDict()
  config.context.method = ""
  # Controls of the same domain, beside each micro-batch; 0: there are none.
  # They are examples of this class, which then is no answer.
  config.context.num_controls = 0
  config.context.control_class = 0
  # After the last step, the accuracy with so many queries of one domain at a
  # time, their classes mixed or sorted: "eval/context/sorted_8/accuracy".
  config.context.protocols = ("mixed_64", "sorted_64", "mixed_8", "sorted_8")

  config.evaluate = ml_collections.ConfigDict()
  config.evaluate.every_steps = 100  # and always after the last step
  config.evaluate.num_batches = 16  # at most; 0: the whole split
  config.evaluate.batch_size = 64
  # Of the data: "validation"; "tuning", which choices are made on (a sweep sets
  # it for its trials); or "test", which nothing reads unless it is asked for.
  config.evaluate.split = "validation"
  config.evaluate.weights = "trained"  # or "ema", the average
  # After the last step also on corrupted images of that split: kinds of
  # arXiv:1903.12261 by TFDS's names, such as "fog_3", "fog" (its five
  # severities), "common" (14 of the benchmark's 15 kinds) and "all" (17).
  config.evaluate.corruptions = ()
  # After the last step also adapted to streams of corrupted images of that
  # split: methods of normjax.adapt, as "tent(learning_rate=0.001)". Each begins
  # with the model as it was trained. Of one method the numbers are
  # "eval/adapt/accuracy", of several "eval/adapt/tent/accuracy".
  config.evaluate.adapt = ml_collections.ConfigDict()
  config.evaluate.adapt.methods = ()
  # The model is set back, or is not, as the corruption changes, or these are
  # mixed: reset_each_shift continual mixed_domains, each also …_correlated:
  # examples of a class come together.
  config.evaluate.adapt.stream = "reset_each_shift"
  # In their order, as above; "clean" are the images as they are.
  config.evaluate.adapt.corruptions = ("common",)
  config.evaluate.adapt.severity = 5  # 1 to 5, of those that name none
  config.evaluate.adapt.batch_size = 64
  # Of "…_correlated": towards 0 sorted by class.
  config.evaluate.adapt.concentration = 0.1
  config.evaluate.adapt.passes = 1  # over each corruption; the last is scored
  config.evaluate.adapt.num_examples = 0  # at most, of each; 0: all
  # Beside those of the objective: names of normjax.metrics, or functions of
  # one's own as "package.module:function".
  config.evaluate.metrics = ()

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every_steps = 100  # 0: none, an interrupted run restarts
  config.checkpoint.keep = 2

  config.log = ml_collections.ConfigDict()
  config.log.every_steps = 10  # training rows of metrics.jsonl
  # Regular expressions; what matches is a row beside each training row:
  # "activation/<path>", "gradient/<path>", "update/<path>" as mean, variance,
  # rms and max; "gradient_norm/layers/0", by depth; "scale/<path>", norms'
  # parameters, as mean, rms, min and max; "weight_norm/<path>", of any
  # parameter; "effective_learning_rate/<path>";
  # "spectrum/<path>", of an update's singular values the largest, stable_rank
  # and effective_rank (an SVD per step: choose few).
  config.log.probes = ()
  config.log.tensorboard = False  # mirror to <run>/tensorboard
  config.log.wandb = False  # mirror to Weights & Biases
  config.log.wandb_project = ""  # "" is "normjax"
  config.log.wandb_group = ""
  # "" is the run id; keys are filled in, as in "{norm.name} seed {seed}".
  config.log.wandb_name = ""

  if arg == "debug":
    config = configure.override(
      config,
      {
        "train.num_steps": 20,
        "evaluate.every_steps": 10,
        "evaluate.num_batches": 2,
        "checkpoint.every_steps": 10,
        "log.every_steps": 5,
      },
    )
  elif arg:
    raise ValueError(f"unknown argument {arg!r}; allowed: debug")
  return config
