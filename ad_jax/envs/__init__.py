"""Gymnax environments, and the distributions of tasks over them.

Every environment has the interface of gymnax. Its actions are discrete, or vectors of floats or of
integers, and its tasks limit the steps of an episode. It may also have the attributes below. They
are looked up by name, so an environment from elsewhere needs no base class.

================================  ==========================================  ======================
attribute                         meaning                                     read by
================================  ==========================================  ======================
``tasks()``                       its ``TaskDistribution``; without it, a     registry.make
                                  config names a function (``env.tasks``)
``acts``                          False if there are only histories of it     ad_jax.build
``version``                       changes when the same actions would lead    ad_jax.build
                                  to another history; gymnax's if absent
``action_bins``                   number of values of each component of a     envs.binned
                                  continuous action; 11 if absent
``reward_levels``                 every reward that it can give; rewards are  data_pipelines.schema,
                                  then stored in fewer bits                   methods.dicp,
                                                                              sources.bandits
``render_observation(obs)``       the uint8 pictures that observations        models, sources.dqn;
                                  stand for; histories store observations,    sources.actors refuses
                                  and the model renders the pictures          other learners
``picture_shows(obs)``            what these pictures show, as float32        models, for
                                  [..., k]                                    ``shown_cost``
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
``known_state``, ``num_stages``   ``(observation, stage, time)``: the state   evaluation.agents
                                  as known to an agent that counts the
                                  rewards of an episode, which gives the
                                  stage, at most ``num_stages`` - 1
``draw_means``                    ``(key, pulls, rewards)``: the arms of a    sources.bandits
                                  bandit, drawn given the pulls of each and
                                  what they paid in total
``places()``, ``reach``,          positions to search; see                    sources.search
``position``,                     ``sources.search.search``
``action_towards``
================================  ==========================================  ======================
"""
