"""Gymnax environments, and the distributions of tasks over them.

Every environment has gymnax's own interface, discrete actions or vectors of floats, and tasks that
limit the steps of an episode. It may also have these attributes. Code asks for them by name, so an
environment from outside needs no base class.

================================  ==========================================  ======================
attribute                         meaning                                     read by
================================  ==========================================  ======================
``tasks()``                       its ``TaskDistribution``; without it, a     registry.make
                                  config names a function (``env.tasks``)
``acts``                          False if only histories are known of it     ad_jax.build
``version``                       changes when the same actions would lead    ad_jax.build
                                  to another history; gymnax's if absent
``action_bins``                   places of each component of a continuous    envs.registry, for
                                  action; 11 if absent                        envs.binned
``reward_levels``                 every reward that it can give; rewards are  data_pipelines.schema
                                  then stored in fewer bits
``render_observation(obs)``       uint8 pictures that observations stand      models, sources.dqn;
                                  for; histories store the observation, and   sources.actors refuses
                                  the model draws                             other learners
``render_version``                changes when the same observations would    ad_jax.build
                                  give other pictures
``privileged_observation``        ``(state, params)``: what a source with     sources.actors
                                  ``privileged=True`` sees; ``step`` puts it
                                  into ``info``, before any reset
``privileged_observation_space``  ``(params)``: the space of the above        sources.actors
``expert_action``                 ``(observation, params)``: the action of    evaluation.agents,
                                  an expert that knows the task               sources.noise
``optimal_return(params)``        best expected return of an episode; None    evaluation.bounds
                                  where it is not known
``random_return(params)``         expected return of the random policy        evaluation.bounds
``all_states()``,                 the states and where episodes start, for    dynamic_programming,
``state_index(state)``,           exact returns; with                         evaluation.bounds
``start_distribution()``          ``max_steps_in_episode``, the longest
                                  limit of all its tasks
``known_state``, ``num_stages``   ``(observation, stage, time)``: the state,  evaluation.agents
                                  for one who counts an episode's rewards,
                                  at most ``num_stages`` - 1
================================  ==========================================  ======================
"""
