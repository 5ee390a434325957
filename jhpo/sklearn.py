"""jhpo for users of scikit-learn: `SearchCV`, in place of ``GridSearchCV`` and ``RandomizedSearchCV``."""

from jhpo.interop.search_cv import SearchCV as SearchCV
