//! Which instructions the kernels use: found out at run time, chosen once a process.

use std::sync::OnceLock;

use crate::Error;

/// The environment variable that forces an instruction set: `portable`, `avx2`, `avxvnni` or `avx512`.
pub const ISA_VARIABLE: &str = "OCELLI_ISA";

/// An instruction set that this machine has: a value exists only where the CPU supports it, so that kernels may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(crate) Kind);

/// The instruction sets that kernels are written for. Kept private: see [`Isa`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// [`Kind::Avx2`] with products of bytes for panels of many tokens; everything else is the same.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Isa {
    /// Plain Rust, on every machine; the definition that the other paths are tested against.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// Every instruction set of this machine, slowest first; [`Isa::PORTABLE`] is always there.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "other architectures have the portable path alone")]
        let mut all = vec![Isa::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            // These lists are those of the `#[target_feature]` attributes of the kernels, which name what they use.
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if avx2 {
                all.push(Isa(Kind::Avx2));
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                all.push(Isa(Kind::AvxVnni));
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Isa(Kind::Avx512Vnni));
            }
        }
        all
    }

    /// The best instruction set of this machine.
    pub fn detect() -> Isa {
        *Isa::available().last().unwrap_or(&Isa::PORTABLE)
    }

    /// What `OCELLI_ISA` asks for; the best of this machine if it is unset or empty.
    ///
    /// # Errors
    /// [`Error::UnknownIsa`] and [`Error::UnavailableIsa`].
    pub fn from_env() -> Result<Isa, Error> {
        match std::env::var_os(ISA_VARIABLE) {
            Some(value) if !value.is_empty() => Isa::from_name(&value.to_string_lossy()),
            _ => Ok(Isa::detect()),
        }
    }

    /// The instruction set of that name, as `OCELLI_ISA` spells it.
    ///
    /// # Errors
    /// [`Error::UnknownIsa`] and [`Error::UnavailableIsa`].
    pub fn from_name(name: &str) -> Result<Isa, Error> {
        let available = Isa::available();
        if let Some(isa) = available.iter().find(|isa| isa.option() == name) {
            return Ok(*isa);
        }
        if ["portable", "avx2", "avxvnni", "avx512"].contains(&name) {
            let names: Vec<_> = available.iter().map(|isa| isa.option()).collect();
            return Err(Error::UnavailableIsa { wanted: name.to_owned(), available: names.join(", ") });
        }
        Err(Error::UnknownIsa { found: name.to_owned() })
    }

    /// The instruction set of this process: [`Isa::from_env`], asked once. A value that cannot be used counts as unset here, so
    /// a program should call [`Isa::from_env`] at its start and report the error.
    pub fn active() -> Isa {
        static ACTIVE: OnceLock<Isa> = OnceLock::new();
        *ACTIVE.get_or_init(|| Isa::from_env().unwrap_or_else(|_| Isa::detect()))
    }

    /// The name in the names of kernels, such as `avx512_vnni-matmul-w2a8`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avx_vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512_vnni",
        }
    }

    /// The spelling of `OCELLI_ISA`.
    pub fn option(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512",
        }
    }
}

/// Compiles one plain loop for each instruction set, and chooses at run time.
///
/// The copies differ in the width of their vectors alone: the compiler may neither reorder nor contract float operations, so that
/// they give the same bits. The first argument of the function that this makes is the [`Isa`].
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $visibility fn $name(isa: $crate::Isa, $($argument: $kind),*) {
            #[inline(always)]
            fn body($($argument: $kind),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $kind),*) {
                body($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
            fn avx512($($argument: $kind),*) {
                body($($argument),*)
            }
            match isa.0 {
                $crate::isa::Kind::Portable => body($($argument),*),
                // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx2 | $crate::isa::Kind::AvxVnni => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx512Vnni => unsafe { avx512($($argument),*) },
            }
        }
    };
}
pub(crate) use for_each_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_path_is_always_available_and_the_best_is_last() {
        let all = Isa::available();
        assert_eq!(all[0], Isa::PORTABLE);
        assert_eq!(Isa::detect(), all[all.len() - 1]);
        for isa in all {
            assert_eq!(Isa::from_name(isa.option()), Ok(isa));
        }
    }

    #[test]
    fn a_name_that_is_unknown_or_unavailable_is_an_error_that_says_what_there_is() {
        let error = Isa::from_name("sse9").unwrap_err();
        assert!(error.to_string().contains("`sse9`, expected portable, avx2, avxvnni or avx512"), "{error}");
        if !Isa::available().iter().any(|isa| isa.option() == "avx512") {
            let error = Isa::from_name("avx512").unwrap_err();
            assert!(error.to_string().contains("this machine has only portable"), "{error}");
        }
    }
}
