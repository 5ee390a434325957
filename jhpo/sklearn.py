"""jhpo for users of scikit-learn: `SearchCV` tunes its estimators, `PopulationSearchCV` models written in JAX."""

from jhpo.interop.population_cv import PopulationSearchCV as PopulationSearchCV
from jhpo.interop.search_cv import SearchCV as SearchCV
