use std::time::Instant;
use ocelli_kernels::*;
fn main(){
  for (lens, what) in [(vec![260;9], "windows"), (vec![2308], "global")] {
   let n: usize = lens.iter().sum(); let x: Vec<f32> = (0..n*1024).map(|i| ((i*37%101) as f32-50.0)/50.0).collect();
   let mut out = vec![0.0; n*1024];
   let ops: f64 = lens.iter().map(|l| 4.0*(l*l) as f64*1024.0).sum();
   let mut best = 1e9f64;
   for _ in 0..6 { let t=Instant::now(); attention_f32(Isa::detect(), &x,&x,&x,16,64,&lens,&mut out); best=best.min(t.elapsed().as_secs_f64()); }
   println!("{what}: {:.1} ms {:.1} GFLOP/s", best*1e3, ops/best/1e9);
  }
}
